use super::*;
use crate::testing::TestClock;
use clap::Parser;
use std::fs;

const SERVICE: &str = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec: {clusterIP: 127.0.10.1, selector: {app: a}, ports: [{name: http, port: 80}]}\n";

fn options(folder: &Path) -> Serve {
    let (config, data) = (folder.join("mesh"), folder.join("data"));
    let words = [
        "tulled".as_ref(),
        "--config".as_ref(),
        config.as_os_str(),
        "--data".as_ref(),
        data.as_os_str(),
        "--xds-address=127.0.0.1:0".as_ref(),
        "--monitoring-address=127.0.0.1:0".as_ref(),
    ];
    Options::try_parse_from(words).unwrap().serve.unwrap()
}

fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::create_dir_all(folder.path().join("mesh/production")).unwrap();
    fs::write(folder.path().join("mesh/production/a.yaml"), SERVICE).unwrap();
    folder
}

async fn until(store: &Store, state: impl Fn(&Store) -> bool) {
    let mut watch = store.watch();
    while !state(store) {
        watch.changed().await.unwrap();
    }
}

#[tokio::test]
async fn it_starts_reads_follows_and_stops() {
    let folder = folder();
    let options = options(folder.path());
    let (drain, watch) = Drain::new();
    let supervisor = Supervisor::new(watch);
    let tasks = supervisor.tasks();
    let started = start(&options, TestClock::new(), &tasks).await.unwrap();
    until(&started.store, Store::is_synced).await;
    assert_eq!(started.store.world().services().count(), 1);
    let second = start(&options, TestClock::new(), &tasks).await.unwrap_err().to_string();
    assert!(second.contains("another tulled"), "{second}");
    let more = SERVICE.replace("name: a", "name: b").replace("10.1", "10.2");
    fs::write(folder.path().join("mesh/production/b.yaml"), more).unwrap();
    until(&started.store, |store| store.world().services().count() == 2).await;
    drain.start();
    supervisor.run(Duration::from_secs(5)).await.unwrap();
    let told: serde_json::Value =
        serde_json::from_slice(&fs::read(options.data.join(ADDRESSES)).unwrap()).unwrap();
    assert_eq!(told["xds"], started.addresses.xds.to_string());
    assert_eq!(told["monitoring"], started.addresses.monitoring.to_string());
}

#[tokio::test]
async fn what_prevents_the_start_is_named() {
    let folder = folder();
    let (_drain, watch) = Drain::new();
    let tasks = Supervisor::new(watch).tasks();
    let refused =
        async |options: &Serve| start(options, TestClock::new(), &tasks).await.unwrap_err().to_string();
    let mut missing = options(folder.path());
    missing.config = folder.path().join("nothing");
    assert!(refused(&missing).await.contains("no such directory"));
    fs::write(folder.path().join("mesh/mesh.yaml"), "trustDomian: a.example\n").unwrap();
    let text = refused(&options(folder.path())).await;
    assert!(text.contains("mesh.yaml:1:1") && text.contains("trustDomain"), "{text}");
    fs::write(folder.path().join("mesh/mesh.yaml"), "trustDomain: a.example\n").unwrap();
    Authority::create(&folder.path().join("data"), "b.example", TestClock::new()).unwrap();
    let text = refused(&options(folder.path())).await;
    assert!(text.contains("a.example") && text.contains("b.example"), "{text}");
}

#[test]
fn tokens_and_roots_are_made_without_a_server() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let run = |words: &[&str]| {
        let words = [&["tulled"], words, &["--data", data.to_str().unwrap()]].concat();
        once(Options::try_parse_from(words).unwrap().command.unwrap()).map_err(|error| error.to_string())
    };
    let create = ["token", "create", "--namespace", "production", "--service-account", "payment"];
    assert!(run(&create).unwrap_err().contains("tulled ca init --data"));
    assert!(run(&["ca", "init"]).unwrap().contains("cluster.local"));
    assert!(run(&["ca", "init"]).unwrap_err().contains("never replaced"));
    let token: crate::token::Token = run(&create).unwrap().parse().unwrap();
    let shown: serde_json::Value =
        serde_json::from_str(&run(&["ca", "show", "-o", "json"]).unwrap()).unwrap();
    assert_eq!(shown["pin"], crate::token::encode(&token.pin));
    assert!(!shown.to_string().contains("PRIVATE"));
}
