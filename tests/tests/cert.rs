//! `tulle cert --out` against a real control plane: the files, the second time without a token, and who is refused.
#![allow(missing_docs, clippy::unwrap_used)]

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use tests::mixed::{Dialect, Mesh, named};
use tests::{Process, binary, until};

/// Runs `tulle cert --out OUT` with more words; what it printed, and whether it did it.
fn cert(mesh: &Mesh, out: &Path, words: &[&str]) -> (bool, String) {
    let control = mesh.control().to_string();
    let mut command = Command::new(binary("tulle"));
    command.args(["cert", "--control", &control, "--out"]).arg(out).args(words);
    let output = command.output().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stderr).into_owned())
}

fn read(out: &Path, name: &str) -> String {
    std::fs::read_to_string(out.join(name)).unwrap()
}

#[test]
fn files_are_issued_for_a_token_and_renewed_with_the_certificate_itself() {
    let mesh = Mesh::without_workloads(Path::new("none"), 44, Dialect::Delta);
    let folder = mesh.own_folder("payment");
    mesh.write_token(&named("payment-stable-1"), &folder);
    let (token, out) = (folder.join("token"), folder.join("out"));
    let token = token.to_str().unwrap();

    let (done, said) = cert(&mesh, &out, &[]);
    assert!(!done && said.contains("no join token"), "{said}");
    let (done, said) = cert(&mesh, &out, &["--token-file", token]);
    assert!(done && said.contains("spiffe://cluster.local/ns/production/sa/payment"), "{said}");
    let first = read(&out, "key.pem");
    assert!(first.contains("PRIVATE KEY") && read(&out, "cert-chain.pem").contains("BEGIN CERTIFICATE"));
    let mode = std::fs::metadata(out.join("key.pem")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);

    let (done, said) = cert(&mesh, &out, &[]);
    assert!(done, "the own certificate is enough: {said}");
    assert_ne!(read(&out, "key.pem"), first, "a new certificate has a new key");
    let by = mesh.log("tulled");
    assert!(by.contains("by=\"join token\"") && by.contains("by=\"certificate\""), "{by}");
}

#[test]
fn a_control_plane_with_another_root_never_sees_the_token() {
    let mesh = Mesh::without_workloads(Path::new("none"), 45, Dialect::Delta);
    let folder = mesh.own_folder("payment");
    mesh.write_token(&named("payment-stable-1"), &folder);
    let (file, out) = (folder.join("token"), folder.join("out"));
    let token = std::fs::read_to_string(&file).unwrap();
    let (front, _) = token.trim().rsplit_once('.').unwrap();
    let wrong = folder.join("wrong");
    std::fs::write(&wrong, format!("{front}.{}", "A".repeat(43))).unwrap();

    let (done, said) = cert(&mesh, &out, &["--token-file", wrong.to_str().unwrap()]);
    assert!(!done && said.contains("the join token was made for"), "{said}");
    let words = ["--token-file", file.to_str().unwrap(), "--trust-domain", "other.example"];
    let (done, said) = cert(&mesh, &out, &words);
    assert!(!done && said.contains("accepted here: spiffe://other.example/"), "{said}");
    assert!(!out.join("key.pem").exists() && !mesh.log("tulled").contains("certificate issued"));
    assert!(cert(&mesh, &out, &["--token-file", file.to_str().unwrap()]).0, "the right token is good");
}

#[test]
fn watched_files_are_renewed_before_they_end() {
    let mesh = Mesh::without_workloads(Path::new("none"), 46, Dialect::Delta);
    let folder = mesh.own_folder("payment");
    mesh.write_token(&named("payment-stable-1"), &folder);
    let (token, out) = (folder.join("token"), folder.join("out"));
    let control = mesh.control().to_string();
    let mut words = vec!["cert", "--control", &control, "--token-file", token.to_str().unwrap()];
    words.extend(["--out", out.to_str().unwrap(), "--watch", "--lifetime", "4"]);
    let mut process = Process::start("tulle", &words, &folder);
    let chain = || std::fs::read_to_string(out.join("cert-chain.pem")).ok();
    let first = until("the first certificate", chain);
    let second = until("a renewal", || chain().filter(|chain| *chain != first));
    until("another renewal", || chain().filter(|chain| *chain != second));
    assert!(process.ended().is_none(), "{}", process.log());
    process.signal(rustix::process::Signal::TERM);
    assert!(process.wait().success(), "{}", process.log());
}
