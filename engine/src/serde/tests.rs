use super::*;
use proptest::prelude::*;

fn round_trip<T: Serde + PartialEq + std::fmt::Debug>(value: &T) {
    let mut out = Vec::new();
    value.encode(&mut out).unwrap();
    assert_eq!(&T::decode(&out.clone().into()).unwrap(), value);
    assert_eq!(&T::from_json(&value.to_json().unwrap()).unwrap(), value);
    let erased = SerdeRef::of::<T>();
    let json = erased.to_json(&Bytes::from(out.clone())).unwrap();
    assert_eq!(erased.from_json(&json).unwrap(), Bytes::from(out));
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn values_survive_bytes_and_json(text: String, number: i64, bytes: Vec<u8>) {
        round_trip(&text);
        round_trip(&number);
        round_trip(&Bytes::from(bytes.clone()));
        round_trip(&Json((text, number, bytes)));
    }

    #[test]
    fn numbers_sort_as_their_bytes(a: i64, b: i64) {
        prop_assert_eq!(a.cmp(&b), ordered_i64(a).cmp(&ordered_i64(b)));
    }
}

#[test]
fn what_does_not_decode_says_what_it_is() {
    assert!(i64::decode(&Bytes::from_static(b"123")).unwrap_err().to_string().contains("8 bytes"));
    assert!(String::decode(&Bytes::from_static(&[0xff])).is_err());
    assert!(i64::from_json(&Value::from("7")).is_err());
    assert!(String::from_json(&Value::from(7)).is_err());
}

#[test]
fn a_json_type_is_named_without_its_module() {
    assert_eq!(Json::<Value>::type_name(), "json:Value");
    assert_eq!(json_type_name::<Vec<i64>>(), "json:Vec<i64>");
}
