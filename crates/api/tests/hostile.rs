//! Files at the size limit whose structure is the worst: each is answered within bounds of time, whatever the answer.

use std::time::{Duration, Instant};

const LIMIT: usize = 8 * 1024 * 1024;

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
    assert!(parsed.problems.len() <= 501);
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
    answered(
        "unknown-fields",
        &(0..700_000).map(|n| format!("k{n}: 1\n")).collect::<String>()[..LIMIT.min(7_000_000)],
    );
    answered("one-long-key", &fill(head, "k"));
    answered("quotes", &fill("a: \"", "\\\""));
    answered("wrong-types", &fill(&format!("{head}spec:\n  http:\n"), "  - 1\n"));
    let routes =
        fill(&format!("{head}spec:\n  hosts: [a]\n  http:\n"), "  - route: [{destination: {host: a}}]\n");
    answered("routes", &routes);
    let hosts: String = (0..20_000).map(|n| format!("h{n},")).collect();
    answered(
        "hosts",
        &format!("{head}spec: {{hosts: [{hosts}], http: [{{route: [{{destination: {{host: a}}}}]}}]}}\n"),
    );
    let aliases = fill("a: &a [1,2,3,4,5,6,7,8,9]\nb: [", "*a,");
    answered("aliases", &aliases);
    let anchors: String = (0..400_000).map(|n| format!("- &a{n} x\n")).collect();
    answered("anchors", &anchors);
    let merges = format!(
        "base: &b {{{}}}\n{}",
        "x: 1",
        (0..200_000).map(|n| format!("m{n}: {{<<: *b}}\n")).collect::<String>()
    );
    answered("merges", &merges);
}
