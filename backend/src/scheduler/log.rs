//! The numbered events of one job, in memory while the job is live. Pure.

use std::ops::Range;

use bytes::Bytes;
use var_dd_protocol::{Frame, FrameHeader, JobEvent, JobId};

use crate::{jobs::ViewerEvent, storage::Ending};

/// One numbered event.
#[derive(Clone, Debug)]
struct LoggedEvent {
    seq: u64,
    /// Bytes of frames in the log up to and with this one.
    end_bytes: usize,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Control(JobEvent),
    Frame {
        header: FrameHeader,
        /// The binary message.
        wire: Bytes,
        /// Where the encoded picture lies in it.
        picture: Range<usize>,
    },
}

/// Where a viewer stands in a log.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Cursor {
    after: Option<u64>,
    /// Events below this number were there when the viewer came: it is catching up, not slow.
    live_from: u64,
}

/// What a log has for a viewer.
#[derive(Debug, Default)]
pub(crate) struct NextEvent {
    /// The next event, if there is one already.
    pub(crate) event: Option<ViewerEvent>,
    /// Intermediate frames passed over on the way.
    pub(crate) dropped: u64,
}

/// The numbered events of one job.
///
/// Numbers increase by one. Of several positions in the queue in a row only the newest stays, with
/// its own number.
#[derive(Debug)]
pub(crate) struct Log {
    job: JobId,
    entries: Vec<LoggedEvent>,
    next_seq: u64,
}

impl Log {
    /// An empty log whose first event gets the number `first_seq`.
    pub(crate) fn new(job: JobId, first_seq: u64) -> Self {
        Self { job, entries: Vec::new(), next_seq: first_seq }
    }

    fn total_bytes(&self) -> usize {
        self.entries.last().map_or(0, |entry| entry.end_bytes)
    }

    fn append(&mut self, bytes: usize, body: Body) {
        let end_bytes = self.total_bytes() + bytes;
        self.entries.push(LoggedEvent { seq: self.next_seq, end_bytes, body });
        self.next_seq += 1;
    }

    /// Adds an event that is no frame.
    pub(crate) fn push(&mut self, event: JobEvent) {
        let is_position = |event: &JobEvent| matches!(event, JobEvent::Queued { .. });
        if is_position(&event) {
            self.entries
                .pop_if(|entry| matches!(&entry.body, Body::Control(last) if is_position(last)));
        }
        self.append(0, Body::Control(event));
    }

    /// Adds a frame with its encoded picture.
    pub(crate) fn push_frame(&mut self, header: FrameHeader, picture: Vec<u8>) {
        let length = picture.len();
        let frame = Frame { job: self.job.clone(), seq: self.next_seq, header, picture };
        let wire = Bytes::from(frame.encode());
        let picture = wire.len() - length..wire.len();
        self.append(wire.len(), Body::Frame { header: frame.header, wire, picture });
    }

    /// Gives the next event the number `seq`, unless there is a higher one already.
    pub(crate) fn skip_to(&mut self, seq: u64) {
        self.next_seq = self.next_seq.max(seq);
    }

    /// Adds a frame that is encoded already, under the number of the log. What is no frame is left
    /// out.
    pub(crate) fn push_wire(&mut self, wire: Bytes) {
        let Ok(frame) = Frame::decode(&wire) else { return };
        let (header, length) = (frame.header, frame.picture.len());
        let picture = wire.len() - length..wire.len();
        self.append(wire.len(), Body::Frame { header, wire, picture });
    }

    /// A viewer that has seen everything up to `after`.
    pub(crate) fn cursor(&self, after: Option<u64>) -> Cursor {
        Cursor { after, live_from: self.next_seq }
    }

    /// The event after `cursor`, which moves on. A viewer that lies more than `backlog_bytes`
    /// behind is spared intermediate frames that came while it watched; never the last frame of a
    /// picture, nor what is no frame.
    pub(crate) fn next(&self, cursor: &mut Cursor, backlog_bytes: usize) -> NextEvent {
        let mut dropped = 0;
        let first = cursor
            .after
            .map_or(0, |after| self.entries.partition_point(|entry| entry.seq <= after));
        for (at, entry) in self.entries.iter().enumerate().skip(first) {
            cursor.after = Some(entry.seq);
            let event = match &entry.body {
                Body::Control(event) => {
                    ViewerEvent::Control { seq: entry.seq, event: event.clone() }
                }
                Body::Frame { header, wire, .. } => {
                    let before = at.checked_sub(1).map_or(0, |at| self.entries[at].end_bytes);
                    let behind = self.total_bytes() - before;
                    if !header.last && entry.seq >= cursor.live_from && behind > backlog_bytes {
                        dropped += 1;
                        continue;
                    }
                    ViewerEvent::Frame { seq: entry.seq, last: header.last, bytes: wire.clone() }
                }
            };
            return NextEvent { event: Some(event), dropped };
        }
        NextEvent { event: None, dropped }
    }

    /// Every frame so far.
    pub(crate) fn frames(&self) -> impl Iterator<Item = (u64, &FrameHeader, Bytes)> {
        self.entries.iter().filter_map(|entry| match &entry.body {
            Body::Control(_) => None,
            Body::Frame { header, wire, picture } => {
                Some((entry.seq, header, wire.slice(picture.clone())))
            }
        })
    }

    /// What is to be kept if `last` ends the job: it gets the next number here as it will in the
    /// log.
    pub(crate) fn ending(&self, last: JobEvent) -> Ending {
        let mut ending = Ending {
            events: Vec::new(),
            frames: self
                .frames()
                .map(|(seq, header, picture)| (seq, header.clone(), picture))
                .collect(),
        };
        for entry in &self.entries {
            if let Body::Control(event) = &entry.body {
                ending.events.push((entry.seq, event.clone()));
            }
        }
        ending.events.push((self.next_seq, last));
        ending
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use var_dd_protocol::MediaType;

    use super::*;

    fn header(last: bool) -> FrameHeader {
        FrameHeader {
            picture: 0,
            pass: 0,
            scale: 0,
            width: 1,
            height: 1,
            media_type: MediaType::Png,
            last,
            at_ms: 0.0,
            encode_ms: 0.0,
        }
    }

    /// A log of `p`ositions, `i`ntermediate and `l`ast frames and other `e`vents.
    fn log(kinds: &str) -> Log {
        let mut log = Log::new(JobId::from_bits(1), 0);
        for (position, kind) in (0..).zip(kinds.chars()) {
            match kind {
                'p' => log.push(JobEvent::Queued { position }),
                'e' => log.push(JobEvent::PassEnded { pass: 0, at_ms: 0.0 }),
                kind => log.push_frame(header(kind == 'l'), vec![0; 100]),
            }
        }
        log
    }

    fn numbers(log: &Log, mut cursor: Cursor, backlog_bytes: usize) -> (Vec<u64>, u64) {
        let (mut seen, mut dropped) = (Vec::new(), 0);
        loop {
            let step = log.next(&mut cursor, backlog_bytes);
            dropped += step.dropped;
            match step.event {
                Some(event) => seen.push(event.seq()),
                None => return (seen, dropped),
            }
        }
    }

    /// A viewer that watched from the beginning and has read nothing.
    fn asleep() -> Cursor {
        Log::new(JobId::from_bits(1), 0).cursor(None)
    }

    #[test]
    fn of_positions_in_a_row_the_newest_stays_under_its_own_number() {
        let log = log("pppepp");
        assert_eq!(numbers(&log, log.cursor(None), 0).0, [2, 3, 5]);
    }

    #[test]
    fn a_sleeper_is_spared_the_oldest_intermediate_frames_only() {
        let log = log("eiiliie");
        let frame = log.total_bytes() / 5;
        assert_eq!(numbers(&log, asleep(), usize::MAX), (vec![0, 1, 2, 3, 4, 5, 6], 0));
        assert_eq!(numbers(&log, asleep(), 4 * frame + 9), (vec![0, 2, 3, 4, 5, 6], 1));
        assert_eq!(numbers(&log, asleep(), 2 * frame + 9), (vec![0, 3, 4, 5, 6], 2));
        assert_eq!(numbers(&log, asleep(), 0), (vec![0, 3, 6], 4));
    }

    #[test]
    fn the_ending_holds_every_event_under_its_number() {
        let ending = log("peile").ending(JobEvent::Cancelled);
        let events: Vec<_> = ending.events.iter().map(|(seq, _)| *seq).collect();
        let frames: Vec<_> = ending.frames.iter().map(|(seq, ..)| *seq).collect();
        assert_eq!((events, frames), (vec![0, 1, 4, 5], vec![2, 3]));
        assert!(ending.frames.iter().all(|(_, _, picture)| picture[..] == [0; 100]));
        assert_eq!(ending.events[3].1, JobEvent::Cancelled);
    }

    proptest! {
        #[test]
        fn whoever_resumes_after_any_event_sees_exactly_the_rest(kinds in "[peil]{0,30}", after: Option<u8>) {
            let log = log(&kinds);
            let (whole, _) = numbers(&log, log.cursor(None), 0);
            let after = after.map(u64::from);
            let rest: Vec<_> = whole.into_iter().filter(|&seq| after.is_none_or(|after| seq > after)).collect();
            prop_assert_eq!(numbers(&log, log.cursor(after), 0), (rest, 0));
        }

        #[test]
        fn no_backlog_costs_a_last_frame_or_what_is_no_frame(kinds in "[peil]{0,30}", backlog_bytes in 0..2000_usize) {
            let log = log(&kinds);
            let (whole, _) = numbers(&log, asleep(), usize::MAX);
            let (seen, dropped) = numbers(&log, asleep(), backlog_bytes);
            prop_assert_eq!(whole.len() as u64, seen.len() as u64 + dropped);
            for seq in whole.iter().filter(|seq| !seen.contains(seq)) {
                prop_assert_eq!(kinds.chars().nth(*seq as usize), Some('i'));
            }
        }
    }
}
