//! Logs are what an instance printed, line by line, made safe to show.

use std::collections::VecDeque;
use std::pin::Pin;

use bollard::container::LogOutput;
use bollard::errors::Error;
use bollard::query_parameters::LogsOptions;
use futures_util::stream::{self, BoxStream};
use futures_util::{Stream, StreamExt};
use jiff::Timestamp;

use super::Docker;
use super::call::{Fault, QUICK};
use super::text::Lines;
use crate::engine::{EngineError, LogLine};

/// What was asked of the engine, for its errors.
const ACTION: &str = "read a container's output";

impl Docker {
    pub(super) async fn read_logs(
        &self,
        container: &str,
        tail: usize,
        follow: bool,
    ) -> Result<BoxStream<'static, Result<LogLine, EngineError>>, EngineError> {
        if self.inspect_container(container).await?.is_none() {
            return Err(EngineError::Refused { action: ACTION, cause: format!("there is no container {container}") });
        }
        let options = LogsOptions {
            follow,
            stdout: true,
            stderr: true,
            timestamps: true,
            tail: tail.to_string(),
            ..LogsOptions::default()
        };
        let client = self.client()?;
        let container = container.to_owned();
        let frames = Box::pin(stream::once(async move { client.logs(&container, Some(options)) }).flatten());
        let reader = Reader {
            frames,
            docker: self.clone(),
            is_followed: follow,
            sides: [Side::default(), Side::default()],
            ready: VecDeque::new(),
            has_ended: false,
        };
        Ok(stream::unfold(reader, |mut reader| async move { reader.next().await.map(|line| (line, reader)) }).boxed())
    }
}

/// Makes lines of the engine's frames.
struct Reader {
    frames: Pin<Box<dyn Stream<Item = Result<LogOutput, Error>> + Send>>,
    docker: Docker,
    is_followed: bool,
    /// Standard output, and standard error.
    sides: [Side; 2],
    ready: VecDeque<Result<LogLine, EngineError>>,
    has_ended: bool,
}

/// One of the two outputs.
#[derive(Default)]
struct Side {
    lines: Lines,
    /// When the line that is being put together was begun.
    at: Option<Timestamp>,
}

impl Reader {
    async fn next(&mut self) -> Option<Result<LogLine, EngineError>> {
        loop {
            if let Some(line) = self.ready.pop_front() {
                return Some(line);
            }
            if self.has_ended {
                return None;
            }
            // Following may wait for as long as the app keeps silent; reading what is there may not.
            let frame = if self.is_followed {
                self.frames.next().await
            } else {
                match tokio::time::timeout(QUICK, self.frames.next()).await {
                    Ok(frame) => frame,
                    Err(_) => return Some(Err(self.end(Fault::timeout(ACTION, QUICK)))),
                }
            };
            match frame {
                Some(Ok(frame)) => self.take(&frame),
                Some(Err(error)) => {
                    let fault = Fault::from_engine(ACTION, self.docker.address(), error);
                    return Some(Err(self.end(fault)));
                }
                None => self.finish(),
            }
        }
    }

    fn end(&mut self, fault: Fault) -> EngineError {
        self.has_ended = true;
        fault.into()
    }

    /// Takes one frame: a time, a space, and a line or, where a line is longer than the engine's buffer, a part of one.
    fn take(&mut self, frame: &LogOutput) {
        let is_error = matches!(frame, LogOutput::StdErr { .. });
        let side = &mut self.sides[usize::from(is_error)];
        let bytes = frame.as_ref();
        let (at, text) = split_time(bytes);
        if !side.lines.is_within_line() {
            side.at = at;
        }
        let (at, ready) = (side.at, &mut self.ready);
        side.lines.push(text, |text| ready.push_back(Ok(LogLine { at, is_error, text })));
    }

    fn finish(&mut self) {
        self.has_ended = true;
        for (side, is_error) in self.sides.iter_mut().zip([false, true]) {
            let at = side.at;
            self.ready.extend(side.lines.finish().map(|text| Ok(LogLine { at, is_error, text })));
        }
    }
}

/// The time that the engine put before the text, where it did.
fn split_time(bytes: &[u8]) -> (Option<Timestamp>, &[u8]) {
    let end = bytes.iter().take(40).position(|&byte| byte == b' ');
    let time = end.and_then(|end| std::str::from_utf8(&bytes[..end]).ok()?.parse().ok());
    match (time, end) {
        (Some(time), Some(end)) => (Some(time), &bytes[end + 1..]),
        _ => (None, bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_engines_time_is_told_from_the_text() {
        let (at, text) = split_time(b"2026-03-01T10:00:00.123456789Z hello world");
        assert_eq!(at, Some("2026-03-01T10:00:00.123456789Z".parse().unwrap()));
        assert_eq!(text, b"hello world");
        assert_eq!(split_time(b"hello world"), (None, b"hello world".as_slice()));
    }
}
