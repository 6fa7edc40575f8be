//! Large files whose structure is the worst: each is answered within bounds of time, whatever the answer.

use std::time::{Duration, Instant};

const LIMIT: usize = 512 * 1024;

/// Long enough for an unoptimised build on a busy machine; what this guards against takes minutes or forever.
const PATIENCE: Duration = Duration::from_secs(60);

fn fill(start: &str, piece: &str) -> String {
    let mut text = start.to_string();
    while text.len() + piece.len() <= LIMIT {
        text.push_str(piece);
    }
    text
}

fn answered(name: &str, text: &str) {
    let start = Instant::now();
    let parsed = api::parse(name, text.as_bytes(), "default");
    let took = start.elapsed();
    println!("{name}: {took:?}, {} objects, {} problems", parsed.objects.len(), parsed.problems.len());
    assert!(took < PATIENCE, "{name} took {took:?}");
    assert!(parsed.problems.len() <= 1_002);
    assert!(parsed.problems.iter().all(|problem| problem.message.len() < 2_000), "{name}");
}

#[test]
fn worst_structures() {
    let head = "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: a}\n";
    answered("open-lists", &fill("", "["));
    answered("open-maps", &fill("", "{a: "));
    answered("commas", &fill(&format!("{head}spec: ["), "1,"));
    answered("block-depth", &fill("", "- "));
    answered("broken-documents", &fill("", "---\na: [\n"));
    answered("documents", &fill("", "---\na: b\n"));
    answered("unknown-fields", &(0..100_000).map(|n| format!("k{n}: 1\n")).collect::<String>());
    answered("one-long-key", &fill(head, "k"));
    answered("quotes", &fill("a: \"", "\\\""));
    answered("wrong-types", &fill(&format!("{head}spec:\n  http:\n"), "  - 1\n"));
    let routes =
        fill(&format!("{head}spec:\n  hosts: [a]\n  http:\n"), "  - route: [{destination: {host: a}}]\n");
    answered("routes", &routes);
    let hosts: String = (0..50_000).map(|n| format!("h{n},")).collect();
    answered(
        "hosts",
        &format!("{head}spec: {{hosts: [{hosts}], http: [{{route: [{{destination: {{host: a}}}}]}}]}}\n"),
    );
    let aliases = fill("a: &a [1,2,3,4,5,6,7,8,9]\nb: [", "*a,");
    answered("aliases", &aliases);
    let anchors: String = (0..50_000).map(|n| format!("- &a{n} x\n")).collect();
    answered("anchors", &anchors);
    answered("merges", &fill("base: &b {x: 1}\nuse:\n", "- {<<: [*b,*b,*b,*b]}\n"));
    answered("merge-keys", &fill("base: &b {x: 1}\nuse:\n", "  <<: *b\n"));
    let fields: String = (0..60_000).map(|n| format!("  wieght{n}: 1\n")).collect();
    answered("unknown-fields-of-a-kind", &format!("{head}spec:\n{fields}"));
    let conditions = fill("", "conect,");
    answered(
        "retry-conditions",
        &format!(
            "{head}spec: {{hosts: [a], http: [{{retries: {{attempts: 1, retryOn: \"{conditions}\"}}}}]}}\n"
        ),
    );
    let subsets: String = (0..30_000).map(|n| format!("{{name: s{n}}},")).collect();
    let rule = head.replace("VirtualService", "DestinationRule");
    answered("subsets", &format!("{rule}spec: {{host: a, subsets: [{subsets}]}}\n"));
    answered("foreign-kinds", &fill("apiVersion: v1\nkind: List\nitems:\n", "- {kind: A, apiVersion: b}\n"));
}
