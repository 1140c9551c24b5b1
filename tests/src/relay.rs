//! A place that stays the same before a service that comes back elsewhere.

use std::sync::{
    Arc,
    atomic::{AtomicU16, Ordering},
};

use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    task::JoinHandle,
};

use crate::Dev;

/// Hands connections on to a deployment, whose port changes with each start. While that is away, they end at once.
#[derive(Debug)]
pub struct Relay {
    port: u16,
    target: Arc<AtomicU16>,
    task: JoinHandle<()>,
}

impl Relay {
    /// One before this deployment.
    ///
    /// # Panics
    /// If there is no port to be had.
    pub async fn before(dev: &Dev) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        let target = Arc::new(AtomicU16::new(port_of(dev)));
        let followed = target.clone();
        let task = tokio::spawn(async move {
            loop {
                let Ok((mut client, _)) = listener.accept().await else { continue };
                let port = followed.load(Ordering::SeqCst);
                tokio::spawn(async move {
                    if let Ok(mut service) = TcpStream::connect(("127.0.0.1", port)).await {
                        let _ = copy_bidirectional(&mut client, &mut service).await; // it may break off
                    }
                });
            }
        });
        Self { port, target, task }
    }

    /// Where it is, as clients name it.
    pub fn endpoint(&self) -> String {
        format!("https://localhost:{}", self.port)
    }

    /// From now on, connections go to where the deployment is by now.
    pub fn follow(&self, dev: &Dev) {
        self.target.store(port_of(dev), Ordering::SeqCst);
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn port_of(dev: &Dev) -> u16 {
    let endpoint = dev.description.endpoint();
    endpoint.rsplit(':').next().and_then(|port| port.parse().ok()).expect("a port")
}
