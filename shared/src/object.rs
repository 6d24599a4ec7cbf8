//! JSON objects that are written as objects.
//!
//! A derived reader takes an array for an object, its elements for the fields in the order in which
//! the program declares them. Nobody means that, and it would make the order part of the protocol.

use std::{fmt, marker::PhantomData};

use serde::{
    Deserialize, Deserializer,
    de::{DeserializeOwned, MapAccess, Visitor, value::MapAccessDeserializer},
};

/// Reads a field that must be written as an object.
///
/// # Errors
/// When it is anything else, or not what it should be.
pub(crate) fn object<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    struct Object<T>(PhantomData<T>);

    impl<'de, T: Deserialize<'de>> Visitor<'de> for Object<T> {
        type Value = T;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an object")
        }

        fn visit_map<M: MapAccess<'de>>(self, map: M) -> Result<T, M::Error> {
            T::deserialize(MapAccessDeserializer::new(map))
        }
    }

    deserializer.deserialize_any(Object(PhantomData))
}

/// Reads JSON that must be one object.
///
/// # Errors
/// When it is anything else, or not what it should be.
pub fn from_json_object<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, serde_json::Error> {
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let value = object(&mut json)?;
    json.end()?;
    Ok(value)
}

#[cfg(test)]
mod tests {
    use crate::{ClientMessage, GenerateRequest, from_json_object};

    #[test]
    fn an_array_is_no_object_at_any_depth() {
        let plan = r#"{"kind":"few_step","t_list":[0],"loss_split_t":3}"#;
        let request = format!(r#"{{"class":7,"plan":{plan}}}"#);
        assert!(from_json_object::<GenerateRequest>(request.as_bytes()).is_ok());
        for wrong in [
            format!("[null,7,{plan},null,1,false]"),
            format!("[null,7,{plan}]"),
            r#"{"class":7,"plan":["few_step",[0],3]}"#.to_owned(),
            "7".to_owned(),
            "null".to_owned(),
            format!("{request} {request}"),
        ] {
            let read = from_json_object::<GenerateRequest>(wrong.as_bytes());
            assert!(read.is_err(), "{wrong} gives {read:?}");
        }
        for wrong in [
            r#"["hello",1]"#.to_owned(),
            format!(r#"{{"type":"generate","tag":1,"request":[null,7,{plan},null,1,false]}}"#),
            r#"{"type":"generate","tag":1,"request":{"class":7,"plan":["teacher",2.0,0,0.0]}}"#
                .to_owned(),
        ] {
            let read = from_json_object::<ClientMessage>(wrong.as_bytes());
            assert!(read.is_err(), "{wrong} gives {read:?}");
        }
    }
}
