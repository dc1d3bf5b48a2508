//! Values of settings, from TOML or from the text of a variable, and back.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use toml::Value;

/// A type that a setting may have.
pub trait Setting: Sized {
    /// # Errors
    /// What the value should be.
    fn parse(value: &Value) -> Result<Self, String>;

    /// As TOML; `None` when it is not set.
    fn show(&self) -> Option<String>;
}

/// Text as TOML: what JSON escapes, TOML reads.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

/// A value for a message.
pub fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => quoted(text),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Boolean(flag) => flag.to_string(),
        Value::Datetime(time) => time.to_string(),
        Value::Array(_) => "a list".to_owned(),
        Value::Table(_) => "a table".to_owned(),
    }
}

macro_rules! whole {
    ($($number:ty)*) => {$(
        impl Setting for $number {
            fn parse(value: &Value) -> Result<Self, String> {
                let number = match value {
                    Value::Integer(number) => Some(i128::from(*number)),
                    Value::String(text) => text.trim().parse().ok(),
                    _ => None,
                };
                number.and_then(|number| Self::try_from(number).ok()).ok_or_else(|| {
                    format!("use a whole number from {} to {}", Self::MIN, (Self::MAX as i128).min(i64::MAX.into()))
                })
            }

            fn show(&self) -> Option<String> {
                Some(self.to_string())
            }
        }
    )*};
}

whole!(i32 i64 u32 u64 usize);

impl Setting for String {
    fn parse(value: &Value) -> Result<Self, String> {
        value.as_str().map(str::to_owned).ok_or_else(|| "use text in quotes".to_owned())
    }

    fn show(&self) -> Option<String> {
        Some(quoted(self))
    }
}

impl Setting for PathBuf {
    fn parse(value: &Value) -> Result<Self, String> {
        match value.as_str() {
            Some(path) if !path.is_empty() => Ok(path.into()),
            _ => Err("use a path in quotes".to_owned()),
        }
    }

    fn show(&self) -> Option<String> {
        self.to_string_lossy().into_owned().show()
    }
}

impl Setting for SocketAddr {
    fn parse(value: &Value) -> Result<Self, String> {
        let address = value.as_str().and_then(|text| text.parse().ok());
        address.ok_or_else(|| "use ADDRESS:PORT in quotes, such as 127.0.0.1:7411".to_owned())
    }

    fn show(&self) -> Option<String> {
        self.to_string().show()
    }
}

/// Milliseconds.
impl Setting for Duration {
    fn parse(value: &Value) -> Result<Self, String> {
        u64::parse(value).map(Self::from_millis).map_err(|_| "use a whole number of milliseconds".to_owned())
    }

    fn show(&self) -> Option<String> {
        Some(self.as_millis().to_string())
    }
}

impl<T: Setting> Setting for Option<T> {
    fn parse(value: &Value) -> Result<Self, String> {
        T::parse(value).map(Some)
    }

    fn show(&self) -> Option<String> {
        self.as_ref().and_then(Setting::show)
    }
}

/// A list, or text with commas.
impl Setting for Vec<String> {
    fn parse(value: &Value) -> Result<Self, String> {
        let refused = || "use a list of texts, such as [\"delivery-day\"]".to_owned();
        match value {
            Value::Array(items) => {
                items.iter().map(|item| String::parse(item).map_err(|_| refused())).collect()
            }
            Value::String(text) => Ok(text
                .split(',')
                .map(str::trim)
                .filter(|item| !item.is_empty())
                .map(str::to_owned)
                .collect()),
            _ => Err(refused()),
        }
    }

    fn show(&self) -> Option<String> {
        Some(format!("[{}]", self.iter().map(|item| quoted(item)).collect::<Vec<_>>().join(", ")))
    }
}
