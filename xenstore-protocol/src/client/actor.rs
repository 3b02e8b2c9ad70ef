use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::{mpsc, watch};
use tokio::time::sleep;

use super::session::{Session, Watches};
use super::{Command, ConnectionState, Connector, Stream};
use crate::wire::Decoder;

/// First pause before connecting again.
const BACK_OFF_MIN: Duration = Duration::from_millis(10);
/// Longest pause before connecting again.
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

/// The task that owns a client's connection.
pub(super) struct Actor {
    received: mpsc::UnboundedReceiver<Command>,
    commands: mpsc::WeakUnboundedSender<Command>,
    state: watch::Sender<ConnectionState>,
    connector: Option<Box<dyn Connector>>,
    watches: Watches,
    /// Before the next attempt to connect. Only a connection that carried a message makes it short again: a server that
    /// takes connections and drops them is not to be hammered.
    pause: Duration,
}

/// Why a connection is over.
#[derive(PartialEq, Eq)]
enum End {
    /// The last handle was dropped.
    Unused,
    /// The stream ended, failed, or carried something else than messages.
    Broken,
}

impl Actor {
    pub(super) fn new(
        received: mpsc::UnboundedReceiver<Command>,
        commands: mpsc::WeakUnboundedSender<Command>,
        state: watch::Sender<ConnectionState>,
        connector: Option<Box<dyn Connector>>,
    ) -> Self {
        Self { received, commands, state, connector, watches: Watches::default(), pause: BACK_OFF_MIN }
    }

    pub(super) async fn run(mut self, mut stream: Box<dyn Stream>) {
        for number in 1_u64.. {
            let session = Session::new(number, self.commands.clone(), &self.watches);
            self.watches.mark_everything();
            self.state.send_replace(ConnectionState::Connected(number));
            if self.serve(session, stream).await == End::Unused {
                return;
            }
            self.state.send_replace(ConnectionState::Reconnecting);
            match self.reconnect().await {
                Some(next) => stream = next,
                None => break,
            }
        }
        self.watches.end();
        self.state.send_replace(ConnectionState::Closed);
    }

    /// Serves one connection. Reading goes on while something is being written: a server that waits for us to take its
    /// answers before it takes more requests is not waited for in turn.
    async fn serve(&mut self, mut session: Session, stream: Box<dyn Stream>) -> End {
        let (mut reader, mut writer) = tokio::io::split(stream);
        let mut decoder = Decoder::new();
        let mut buffer = [0; 8192];
        loop {
            let unsent = session.outgoing.front().map_or(&[][..], Vec::as_slice);
            tokio::select! {
                command = self.received.recv() => match command {
                    Some(command) => session.command(command, &mut self.watches),
                    None => return End::Unused,
                },
                read = reader.read(&mut buffer) => {
                    let Some(bytes) = read.ok().and_then(|length| buffer.get(..length)).filter(|b| !b.is_empty()) else {
                        return End::Broken;
                    };
                    decoder.push(bytes);
                    loop {
                        match decoder.next_message() {
                            Ok(Some(message)) => {
                                self.pause = BACK_OFF_MIN;
                                session.message(message, &mut self.watches);
                            }
                            Ok(None) => break,
                            Err(_) => return End::Broken,
                        }
                    }
                },
                written = writer.write(unsent), if !unsent.is_empty() => match written {
                    Ok(length @ 1..) => session.sent(length),
                    _ => return End::Broken,
                },
            }
        }
    }

    /// Connects again, with growing pauses; meanwhile requests fail. `None` if there is nothing to connect to, or
    /// nobody to connect for.
    async fn reconnect(&mut self) -> Option<Box<dyn Stream>> {
        let connector = self.connector.as_ref()?;
        loop {
            let pause = self.pause;
            self.pause = pause.saturating_mul(2).min(BACK_OFF_MAX);
            let attempt = async move {
                sleep(pause).await;
                connector.open().await
            };
            tokio::pin!(attempt);
            let outcome = loop {
                tokio::select! {
                    outcome = &mut attempt => break outcome,
                    command = self.received.recv() => match command? {
                        Command::Unwatch { token } => drop(self.watches.remove(token)),
                        // Dropping a command tells its sender that there is no connection.
                        Command::Request { .. } | Command::Start { .. } | Command::Abort(_) | Command::Watch { .. } => {}
                    },
                }
            };
            if let Ok(stream) = outcome {
                return Some(stream);
            }
        }
    }
}
