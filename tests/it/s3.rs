//! The same over S3: moto's server, from the Python environment that `scripts/prepare.sh` makes.

use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use crate::harness::{Node, eventually, free_ports};
use crate::tier::offload_and_read_back;

struct Moto {
    child: Child,
    port: u16,
}

impl Drop for Moto {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `None` where the environment is not there; on a build server that is a failure.
fn moto() -> Option<Moto> {
    let python = std::env::var("SUNSEO_PYTHON").unwrap_or_default();
    let server = Path::new(&python).with_file_name("moto_server");
    if !server.exists() {
        let message = format!("{} is not there: scripts/prepare.sh installs it", server.display());
        assert!(std::env::var("CI").as_deref() != Ok("true"), "{message}");
        eprintln!("skipped: {message}");
        return None;
    }
    let (port, _) = free_ports();
    let mut command = Command::new(server);
    command.args(["-H", "127.0.0.1", "-p", &port.to_string()]).stdout(Stdio::null()).stderr(Stdio::null());
    let child = command.spawn().expect("moto_server");
    let moto = Moto { child, port };
    eventually("moto_server listens", || TcpStream::connect(("127.0.0.1", port)).ok());
    create_bucket(port);
    Some(moto)
}

fn create_bucket(port: u16) {
    use std::io::{Read as _, Write as _};
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let request = format!(
        "PUT /sunseo HTTP/1.1\r\nhost: 127.0.0.1:{port}\r\nauthorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0\r\nconnection: close\r\ncontent-length: 0\r\n\r\n"
    );
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
}

#[test]
fn offloaded_records_are_read_back_from_an_s3_compatible_server() {
    let Some(moto) = moto() else { return };
    let url = format!("s3://sunseo/test?endpoint=http://127.0.0.1:{}&region=us-east-1&style=path", moto.port);
    let environment = [("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")];
    offload_and_read_back(&mut Node::start_in(&environment, &["--object-store", &url]));
}
