//! Pictures one after the other as a video: AV1 in MP4, for places that show neither WebP nor APNG.
//! Each picture is coded once and held by the time of its sample.

use std::{num::NonZeroU32, time::Duration};

use anyhow::{Context as _, bail, ensure};
use image::RgbImage;
use rav1e::{
    Config, Context, EncoderConfig, EncoderStatus, Frame, Packet,
    color::{ColorDescription, ColorPrimaries, MatrixCoefficients, TransferCharacteristics},
    config::SpeedSettings,
    data::FrameType,
    prelude::{PixelRange, SceneDetectionSpeed},
};
use shiguredo_mp4::{
    TrackKind,
    bitstream::av1::{
        Av1ObuParseContext, Av1ObuType, Av1SampleEntryConfig, build_av01_box_from_config_obus,
        parse_obus,
    },
    boxes::SampleEntry,
    mux::{Mp4FileMuxer, Mp4FileMuxerOptions, Sample, estimate_maximum_moov_box_size},
};
use yuv::{
    YuvChromaSubsampling, YuvConversionMode, YuvPlanarImageMut, YuvRange, YuvStandardMatrix,
};

/// From 0 (slow, small) to 10: at 9 a picture of 256 pixels takes hundredths of a second.
const SPEED: u8 = 9;

/// How coarse colours may become, from 0 to 255: no difference that an eye finds.
const QUANTIZER: usize = 60;

/// Most pixels of all pictures together: seconds of a core's time.
const MOST_PIXELS: u64 = 64 << 20;

/// Smallest side that can be coded.
const LEAST_SIDE: u32 = 16;

/// Ticks a second.
const TIMESCALE: NonZeroU32 = NonZeroU32::MIN.saturating_add(999);

/// Levels of AV1 by the pixels that they show a second (AV1 specification, annex A.3).
const LEVELS: [(u64, u8); 4] =
    [(4_423_680, 0), (19_975_680, 4), (70_778_880, 8), (267_386_880, 12)];

/// Most pictures a second: none is held for less than 20 ms.
const MOST_RATE: u64 = 50;

/// Square pictures of `side` pixels as a video, each shown for its time in `holds`. A side that is
/// odd or less than 16 grows by repeating its last pixels. It ends with the last picture; whether
/// it begins anew is up to whoever plays it.
///
/// # Errors
/// When there is no picture, one is not of this side, or all together have too many pixels.
pub fn mp4(pictures: &[RgbImage], holds: &[Duration], side: u16) -> anyhow::Result<Vec<u8>> {
    let count = pictures.len();
    check(count, side.into())?;
    let coded = u32::from(side).next_multiple_of(2).max(LEAST_SIDE);
    let mut encoder = encoder(coded)?;
    for picture in pictures {
        let size = (u32::from(side), u32::from(side));
        ensure!(picture.dimensions() == size, "a picture is not of the size {side} × {side}");
        let frame = frame(&encoder, picture, coded)?;
        encoder.send_frame(frame).context("the encoder takes no more pictures")?;
    }
    encoder.flush();
    let mut packets = Vec::with_capacity(count);
    loop {
        match encoder.receive_packet() {
            Ok(packet) => packets.push(packet),
            Err(EncoderStatus::Encoded) => {}
            Err(EncoderStatus::LimitReached) => break,
            Err(status) => bail!("the encoder stopped: {status}"),
        }
    }
    ensure!(packets.len() == count, "{} of {count} pictures were coded", packets.len());
    muxed(&packets, holds)
}

/// Why no video can be made of pictures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SizeError {
    /// There is none.
    #[error("there is no picture to make a video of")]
    NoPicture,
    /// They have more pixels than are coded.
    #[error(
        "a video of {count} pictures of {side} × {side} has {pixels} pixels, and at most \
         {MOST_PIXELS} are coded; take an animation instead"
    )]
    TooManyPixels {
        /// Pictures.
        count: usize,
        /// Side of each, in pixels.
        side: u32,
        /// Pixels of all together.
        pixels: u64,
    },
}

/// Whether a video can be made of so many pictures of a side in pixels.
///
/// # Errors
/// When there is none, or they have too many pixels.
pub fn check(count: usize, side: u32) -> Result<(), SizeError> {
    if count == 0 {
        return Err(SizeError::NoPicture);
    }
    let pixels = (count as u64).saturating_mul(u64::from(side) * u64::from(side));
    if pixels > MOST_PIXELS {
        return Err(SizeError::TooManyPixels { count, side, pixels });
    }
    Ok(())
}

/// An encoder for pictures of a side.
fn encoder(side: u32) -> anyhow::Result<Context<u8>> {
    let rate = MOST_RATE * u64::from(side) * u64::from(side);
    let mut speed_settings = SpeedSettings::from_preset(SPEED);
    // All is one scene: each picture is the one before, finer.
    speed_settings.scene_detection_mode = SceneDetectionSpeed::None;
    let mut config = EncoderConfig {
        width: side as usize,
        height: side as usize,
        pixel_range: PixelRange::Limited,
        // As videos on the web are, so that every player takes the colours for what they are.
        color_description: Some(ColorDescription {
            color_primaries: ColorPrimaries::BT709,
            transfer_characteristics: TransferCharacteristics::BT709,
            matrix_coefficients: MatrixCoefficients::BT709,
        }),
        level_idx: LEVELS.iter().find(|(most, _)| rate <= *most).map(|(_, level)| *level),
        // One picture goes in, one comes out.
        low_latency: true,
        quantizer: QUANTIZER,
        speed_settings,
        ..EncoderConfig::with_speed_preset(SPEED)
    };
    config.set_key_frame_interval(0, 0);
    let config = Config::new().with_encoder_config(config).with_threads(1);
    config.new_context().context("the encoder cannot be set up")
}

/// A picture in the encoder's colours, grown to `coded` pixels a side.
fn frame(encoder: &Context<u8>, picture: &RgbImage, coded: u32) -> anyhow::Result<Frame<u8>> {
    let (width, height) = picture.dimensions();
    let grown = RgbImage::from_fn(coded, coded, |x, y| {
        *picture.get_pixel(x.min(width - 1), y.min(height - 1))
    });
    let mut planes = YuvPlanarImageMut::<u8>::alloc(coded, coded, YuvChromaSubsampling::Yuv420);
    yuv::rgb_to_yuv420(
        &mut planes,
        &grown,
        3 * coded,
        YuvRange::Limited,
        YuvStandardMatrix::Bt709,
        YuvConversionMode::Balanced,
    )?;
    let mut frame = encoder.new_frame();
    let sources = [
        (planes.y_plane.borrow(), planes.y_stride),
        (planes.u_plane.borrow(), planes.u_stride),
        (planes.v_plane.borrow(), planes.v_stride),
    ];
    for (plane, (source, stride)) in frame.planes.iter_mut().zip(sources) {
        plane.copy_from_raw_u8(source, stride as usize, 1);
    }
    Ok(frame)
}

/// Coded pictures as a file, each shown as long as it is held.
fn muxed(packets: &[Packet<u8>], holds: &[Duration]) -> anyhow::Result<Vec<u8>> {
    let mut muxer = Mp4FileMuxer::with_options(Mp4FileMuxerOptions {
        // What is needed to play comes first.
        reserved_moov_box_size: estimate_maximum_moov_box_size(&[packets.len()]),
        ..Mp4FileMuxerOptions::default()
    })?;
    let mut file = muxer.initial_boxes_bytes().to_vec();
    let mut sample_entry = None;
    for (packet, hold) in packets.iter().zip(holds) {
        let data_offset = file.len() as u64;
        for unit in parse_obus(&packet.data, Av1ObuParseContext::Sample)? {
            match unit.obu_type {
                // The sample is the delimiter (AV1 in ISO base media files, section 2.4).
                Av1ObuType::TemporalDelimiter => continue,
                Av1ObuType::SequenceHeader if sample_entry.is_none() => {
                    let config =
                        Av1SampleEntryConfig { initial_presentation_delay_minus_one: None };
                    let entry = build_av01_box_from_config_obus(unit.obu, &config)?;
                    sample_entry = Some(SampleEntry::Av01(entry));
                }
                _ => {}
            }
            file.extend_from_slice(unit.obu);
        }
        muxer.append_sample(&Sample {
            track_kind: TrackKind::Video,
            sample_entry: sample_entry.clone(),
            keyframe: packet.frame_type == FrameType::KEY,
            timescale: TIMESCALE,
            duration: u32::try_from(hold.as_millis())?,
            composition_time_offset: None,
            data_offset,
            data_size: file.len() - data_offset as usize,
        })?;
    }
    for (offset, bytes) in muxer.finalize()?.offset_and_bytes_pairs() {
        let begin = usize::try_from(offset)?;
        let end = begin + bytes.len();
        file.resize(file.len().max(end), 0);
        file[begin..end].copy_from_slice(bytes);
    }
    Ok(file)
}

#[cfg(test)]
mod tests {
    use image::Rgb;
    use shiguredo_mp4::demux::{DemuxError, Input, Mp4FileDemuxer};

    use super::*;

    /// A picture that is coarse at first.
    fn picture(side: u32, cell: u32) -> RgbImage {
        RgbImage::from_fn(side, side, |x, y| {
            let (x, y) = (x / cell * cell, y / cell * cell);
            Rgb([(255 * x / side) as u8, (255 * y / side) as u8, 120])
        })
    }

    fn pictures(side: u32) -> Vec<RgbImage> {
        [16, 8, 4, 1].map(|cell| picture(side, cell)).to_vec()
    }

    fn ms(times: &[u64]) -> Vec<Duration> {
        times.iter().map(|ms| Duration::from_millis(*ms)).collect()
    }

    /// What a player makes of a file.
    #[derive(Debug, PartialEq)]
    struct Played {
        size: (u16, u16),
        /// Ticks in all.
        duration: u64,
        /// Of each sample its ticks, and whether it is a key.
        samples: Vec<(u32, bool)>,
    }

    fn read(file: &[u8]) -> Result<Played, DemuxError> {
        let mut demuxer = Mp4FileDemuxer::new();
        demuxer.handle_input(Input { position: 0, data: file });
        let tracks = demuxer.tracks()?.to_vec();
        assert_eq!((tracks.len(), tracks[0].kind), (1, TrackKind::Video));
        assert_eq!(tracks[0].timescale, TIMESCALE);
        let mut size = (0, 0);
        let mut samples = Vec::new();
        while let Some(sample) = demuxer.next_sample()? {
            if let Some(SampleEntry::Av01(entry)) = sample.sample_entry {
                size = (entry.visual.width, entry.visual.height);
            }
            let end = sample.data_offset as usize + sample.data_size;
            let data = &file[sample.data_offset as usize..end];
            let units = parse_obus(data, Av1ObuParseContext::Sample).unwrap();
            assert!(units.iter().all(|unit| unit.obu_type != Av1ObuType::TemporalDelimiter));
            samples.push((sample.duration, sample.keyframe));
        }
        Ok(Played { size, duration: tracks[0].duration, samples })
    }

    #[test]
    fn each_picture_is_a_sample_of_av1_that_is_held_as_long_as_it_is_said() {
        let file = mp4(&pictures(64), &ms(&[20, 400, 5000, 2000]), 64).unwrap();
        let samples = vec![(20, true), (400, false), (5000, false), (2000, false)];
        let expected = Played { size: (64, 64), duration: 7420, samples };
        assert_eq!(read(&file).unwrap(), expected);
        let at = |name: &[u8]| file.windows(4).position(|window| window == name).unwrap();
        assert!(at(b"moov") < at(b"mdat"), "what is needed to play does not come first");
        assert_eq!(mp4(&pictures(64), &ms(&[20, 400, 5000, 2000]), 64).unwrap(), file);
    }

    #[test]
    fn an_odd_or_tiny_side_grows_to_one_that_can_be_coded() {
        for (side, coded) in [(8, 16), (33, 34)] {
            let file = mp4(&pictures(side), &ms(&[9; 4]), side as u16).unwrap();
            let Played { size, samples, .. } = read(&file).unwrap();
            assert_eq!((size, samples.len()), ((coded, coded), 4), "{side}");
        }
    }

    #[test]
    fn what_cannot_be_coded_is_refused_with_its_size() {
        let told = |pictures: &[RgbImage], side| {
            let holds = vec![Duration::from_secs(1); pictures.len()];
            mp4(pictures, &holds, side).unwrap_err().to_string()
        };
        assert!(told(&[], 64).contains("no picture"));
        assert!(told(&pictures(64), 66).contains("66 × 66"));
        let large = told(&vec![RgbImage::new(1, 1); 2000], 256);
        assert!(large.contains("2000 pictures of 256 × 256"), "{large}");
    }
}
