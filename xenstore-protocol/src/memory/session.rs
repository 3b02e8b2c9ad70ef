//! One client's connection.

use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::mpsc;

use super::store::Store;
use crate::client::Stream;
use crate::wire::Decoder;

/// Forgets the client however its task ends.
struct Registration {
    store: Arc<Mutex<Store>>,
    id: u64,
}

impl Drop for Registration {
    fn drop(&mut self) {
        self.store.lock().unwrap_or_else(PoisonError::into_inner).disconnect(self.id);
    }
}

/// Serves a client until its stream ends, carries something else than messages, or the server forgets it.
pub(super) async fn serve(
    store: Arc<Mutex<Store>>,
    id: u64,
    mut outgoing: mpsc::UnboundedReceiver<Vec<u8>>,
    stream: impl Stream,
) {
    let registration = Registration { store, id };
    let (mut reader, mut writer) = tokio::io::split(stream);
    let receive = async {
        let mut decoder = Decoder::new();
        let mut buffer = [0; 8192];
        while let Ok(length @ 1..) = reader.read(&mut buffer).await {
            decoder.push(buffer.get(..length).unwrap_or_default());
            loop {
                match decoder.next_message() {
                    Ok(Some(message)) => {
                        let mut store = registration.store.lock().unwrap_or_else(PoisonError::into_inner);
                        store.handle(id, &message);
                    }
                    Ok(None) => break,
                    Err(_) => return,
                }
            }
        }
    };
    let send = async {
        while let Some(bytes) = outgoing.recv().await {
            if writer.write_all(&bytes).await.is_err() {
                return;
            }
        }
    };
    tokio::select! {
        () = receive => {}
        () = send => {}
    }
}
