//! Keys and values as bytes in topics and stores, and as JSON in queries.
//!
//! Invariant: encoding is a function of the value (a key finds its partition and its row by its bytes). A type whose JSON
//! holds a map with random order must not be a key.

pub(crate) mod datum;

use std::fmt;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

/// What a user's function, or a serde, may fail with. The message goes into the dead-letter record.
pub type UserError = Box<dyn std::error::Error + Send + Sync>;

/// What a user's function returns.
pub type UserResult<T> = std::result::Result<T, UserError>;

/// A type that can be a key or a value. For your own types see [`json_serde!`](crate::json_serde) and [`Json`].
pub trait Serde: Clone + Send + Sync + 'static {
    /// Name in descriptions; two versions of a topology keep a store only when it is the same.
    fn type_name() -> String;

    /// Appends the bytes.
    ///
    /// # Errors
    /// When the value has no encoding.
    fn encode(&self, out: &mut Vec<u8>) -> UserResult<()>;

    /// The value of bytes.
    ///
    /// # Errors
    /// When they are no encoding of this type.
    fn decode(bytes: &Bytes) -> UserResult<Self>;

    /// JSON for queries.
    ///
    /// # Errors
    /// When the value has no JSON form.
    fn to_json(&self) -> UserResult<Value>;

    /// The value of a JSON form.
    ///
    /// # Errors
    /// When it is none of this type.
    fn from_json(json: &Value) -> UserResult<Self>;
}

/// Text, as its UTF-8 bytes.
impl Serde for String {
    fn type_name() -> String {
        "utf8".to_owned()
    }
    fn encode(&self, out: &mut Vec<u8>) -> UserResult<()> {
        out.extend_from_slice(self.as_bytes());
        Ok(())
    }
    fn decode(bytes: &Bytes) -> UserResult<Self> {
        Ok(std::str::from_utf8(bytes)?.to_owned())
    }
    fn to_json(&self) -> UserResult<Value> {
        Ok(Value::String(self.clone()))
    }
    fn from_json(json: &Value) -> UserResult<Self> {
        Ok(json.as_str().ok_or_else(|| format!("{json} is not a JSON string"))?.to_owned())
    }
}

/// Eight bytes whose order is the order of the numbers.
impl Serde for i64 {
    fn type_name() -> String {
        "i64".to_owned()
    }
    fn encode(&self, out: &mut Vec<u8>) -> UserResult<()> {
        out.extend_from_slice(&ordered_i64(*self));
        Ok(())
    }
    fn decode(bytes: &Bytes) -> UserResult<Self> {
        take_ordered_i64(bytes)
            .filter(|(_, rest)| rest.is_empty())
            .map(|(value, _)| value)
            .ok_or_else(|| format!("an i64 has 8 bytes, these are {}", bytes.len()).into())
    }
    fn to_json(&self) -> UserResult<Value> {
        Ok(Value::from(*self))
    }
    fn from_json(json: &Value) -> UserResult<Self> {
        json.as_i64().ok_or_else(|| format!("{json} is not an integer of 64 bits").into())
    }
}

/// Bytes as they are; in JSON an array of numbers.
impl Serde for Bytes {
    fn type_name() -> String {
        "bytes".to_owned()
    }
    fn encode(&self, out: &mut Vec<u8>) -> UserResult<()> {
        out.extend_from_slice(self);
        Ok(())
    }
    fn decode(bytes: &Bytes) -> UserResult<Self> {
        Ok(bytes.clone())
    }
    fn to_json(&self) -> UserResult<Value> {
        Ok(serde_json::to_value(self.as_ref())?)
    }
    fn from_json(json: &Value) -> UserResult<Self> {
        Ok(Bytes::from(Vec::<u8>::deserialize_json(json)?))
    }
}

/// Any type of [`serde`](https://serde.rs), as JSON.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Json<T>(pub T);

impl<T: Serialize + DeserializeOwned + Clone + Send + Sync + 'static> Serde for Json<T> {
    fn type_name() -> String {
        json_type_name::<T>()
    }
    fn encode(&self, out: &mut Vec<u8>) -> UserResult<()> {
        Ok(serde_json::to_writer(out, &self.0)?)
    }
    fn decode(bytes: &Bytes) -> UserResult<Self> {
        Ok(Self(serde_json::from_slice(bytes)?))
    }
    fn to_json(&self) -> UserResult<Value> {
        Ok(serde_json::to_value(&self.0)?)
    }
    fn from_json(json: &Value) -> UserResult<Self> {
        Ok(Self(T::deserialize_json(json)?))
    }
}

/// `json:` and the last part of the type's path, so that moving a type to another module keeps its stores.
#[must_use]
pub fn json_type_name<T>() -> String {
    let path = std::any::type_name::<T>();
    let (head, generics) = path.split_at(path.find('<').unwrap_or(path.len()));
    format!("json:{}{generics}", head.rsplit("::").next().unwrap_or(head))
}

trait DeserializeJson: DeserializeOwned {
    fn deserialize_json(json: &Value) -> UserResult<Self> {
        Ok(Self::deserialize(json)?)
    }
}

impl<T: DeserializeOwned> DeserializeJson for T {}

/// Implements [`Serde`] as JSON for types that implement `serde`'s traits and `Clone`.
#[macro_export]
macro_rules! json_serde {
    ($($type:ty),+ $(,)?) => {$(
        impl $crate::Serde for $type {
            fn type_name() -> String {
                $crate::serde::json_type_name::<$type>()
            }
            fn encode(&self, out: &mut Vec<u8>) -> $crate::UserResult<()> {
                $crate::serde::encode_json(self, out)
            }
            fn decode(bytes: &$crate::serde::BytesType) -> $crate::UserResult<Self> {
                $crate::serde::decode_json(bytes)
            }
            fn to_json(&self) -> $crate::UserResult<$crate::serde::JsonValue> {
                $crate::serde::value_to_json(self)
            }
            fn from_json(json: &$crate::serde::JsonValue) -> $crate::UserResult<Self> {
                $crate::serde::value_from_json(json)
            }
        }
    )+};
}

#[doc(hidden)]
pub use bytes::Bytes as BytesType;
#[doc(hidden)]
pub use serde_json::Value as JsonValue;

#[doc(hidden)]
pub fn encode_json<T: Serialize>(value: &T, out: &mut Vec<u8>) -> UserResult<()> {
    Ok(serde_json::to_writer(out, value)?)
}

#[doc(hidden)]
pub fn decode_json<T: DeserializeOwned>(bytes: &[u8]) -> UserResult<T> {
    Ok(serde_json::from_slice(bytes)?)
}

#[doc(hidden)]
pub fn value_to_json<T: Serialize>(value: &T) -> UserResult<Value> {
    Ok(serde_json::to_value(value)?)
}

#[doc(hidden)]
pub fn value_from_json<T: DeserializeOwned>(json: &Value) -> UserResult<T> {
    T::deserialize_json(json)
}

/// The eight bytes of a number that sort as the number does.
#[must_use]
pub(crate) fn ordered_i64(value: i64) -> [u8; 8] {
    (value.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

/// The number at the front of bytes that [`ordered_i64`] made, and what follows.
pub(crate) fn take_ordered_i64(bytes: &[u8]) -> Option<(i64, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<8>()?;
    Some(((u64::from_be_bytes(*head) ^ (1 << 63)).cast_signed(), rest))
}

/// What a stream's key or value may be: a [`Serde`] type, or an `Option` of one where null is expected.
///
/// A null that meets a type which does not expect it is left out of the stream and counted.
pub trait Field: 'static {
    /// The type without null.
    type Inner: Serde;
    /// What a user's function is given: `&T` or `Option<&T>`.
    type Ref<'a>;
    /// Whether null is expected.
    const NULLABLE: bool;

    #[doc(hidden)]
    fn view(inner: Option<&Self::Inner>) -> Option<Self::Ref<'_>>;
    #[doc(hidden)]
    fn into_inner(self) -> Option<Self::Inner>;
}

impl<T: Serde> Field for T {
    type Inner = T;
    type Ref<'a> = &'a T;
    const NULLABLE: bool = false;

    fn view(inner: Option<&T>) -> Option<&T> {
        inner
    }
    fn into_inner(self) -> Option<T> {
        Some(self)
    }
}

impl<T: Serde> Field for Option<T> {
    type Inner = T;
    type Ref<'a> = Option<&'a T>;
    const NULLABLE: bool = true;

    fn view(inner: Option<&T>) -> Option<Option<&T>> {
        Some(inner)
    }
    fn into_inner(self) -> Option<T> {
        self
    }
}

/// A [`Serde`] type as a value, for descriptions and queries.
#[derive(Clone, Copy)]
pub struct SerdeRef {
    type_name: fn() -> String,
    to_json: fn(&Bytes) -> UserResult<Value>,
    from_json: fn(&Value) -> UserResult<Vec<u8>>,
}

impl SerdeRef {
    /// The serde of `T`.
    #[must_use]
    pub fn of<T: Serde>() -> Self {
        Self {
            type_name: T::type_name,
            to_json: |bytes| T::decode(bytes)?.to_json(),
            from_json: |json| {
                let mut out = Vec::new();
                T::from_json(json)?.encode(&mut out)?;
                Ok(out)
            },
        }
    }

    /// [`Serde::type_name`].
    #[must_use]
    pub fn type_name(&self) -> String {
        (self.type_name)()
    }

    /// Bytes as JSON.
    ///
    /// # Errors
    /// When they do not decode.
    pub fn to_json(&self, bytes: &Bytes) -> UserResult<Value> {
        (self.to_json)(bytes)
    }

    /// JSON as bytes.
    ///
    /// # Errors
    /// When it is no value of the type.
    pub fn from_json(&self, json: &Value) -> UserResult<Bytes> {
        Ok((self.from_json)(json)?.into())
    }
}

impl fmt::Debug for SerdeRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SerdeRef({})", self.type_name())
    }
}

#[cfg(test)]
mod tests;
