//! Messages that nobody would send: what is understood is written as it was, and nothing panics.
//! The bodies are those of the fuzz targets.

use proptest::prelude::*;

#[path = "../../fuzz/bodies/frame.rs"]
mod frame;
#[path = "../../fuzz/bodies/picture_text.rs"]
mod picture_text;
#[path = "../../fuzz/bodies/plan.rs"]
mod plan;

/// JSON that is nearly a plan.
fn nearly_a_plan() -> impl Strategy<Value = String> {
    let number = prop_oneof![
        (0u64..20).prop_map(|n| n.to_string()),
        any::<i64>().prop_map(|n| n.to_string()),
        Just("1e99".to_owned()),
        Just("null".to_owned()),
    ];
    let list = prop::collection::vec(number.clone(), 0..4)
        .prop_map(|numbers| format!("[{}]", numbers.join(",")));
    let kind = prop::sample::select(vec!["few_step", "teacher_involved", "teacher", "other"]);
    (kind, list, number.clone(), number.clone(), number).prop_map(|(kind, list, a, b, c)| {
        format!(
            r#"{{"kind":"{kind}","t_list":{list},"loss_split_t":{a},"teacher_start":{b},"cfg":{c},"top_k":{a},"top_p":{b}}}"#
        )
    })
}

proptest! {
    #[test]
    fn any_bytes_as_a_frame(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        frame::run(&bytes);
        let header = (bytes.len() as u32).to_le_bytes();
        frame::run(&[b"VDF1".as_slice(), &header, &bytes, b"picture"].concat());
    }

    #[test]
    fn any_bytes_as_a_picture(bytes in prop::collection::vec(any::<u8>(), 0..300), length in 0u32..64) {
        picture_text::run(&bytes);
        let keyword = b"parameters\0\0\0\0\0";
        picture_text::run(&[&length.to_be_bytes(), b"iTXt", &keyword[..], &bytes].concat());
        let little = length.to_le_bytes();
        picture_text::run(&[b"XMP ", &little[..], b">parameters: {", &bytes].concat());
        picture_text::run(&[b"\x21\xfe\x20parameters: {", &bytes[..]].concat());
    }

    #[test]
    fn any_json_as_a_plan(text in nearly_a_plan()) {
        plan::run(text.as_bytes());
        let job = "0".repeat(32);
        frame::run(format!(
            r#"{{"type":"generate","tag":1,"request":{{"class":1,"plan":{text},"count":1}},"job":"{job}"}}"#
        ).as_bytes());
    }
}
