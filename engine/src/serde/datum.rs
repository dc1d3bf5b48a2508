//! Values on their way through the operators, with their type erased.

use std::any::Any;
use std::marker::PhantomData;
use std::sync::Arc;

use bytes::Bytes;

use super::{Field, Serde, UserResult};

/// A key or a value.
pub(crate) type Datum = Arc<dyn Any + Send + Sync>;

/// Marks a type parameter without owning a value of it.
pub(crate) type Of<T> = PhantomData<fn() -> T>;

/// A value as a datum.
pub(crate) fn datum<T: Serde>(value: T) -> Datum {
    Arc::new(value)
}

/// A field as a datum, `None` for null.
pub(crate) fn field_datum<F: Field>(field: F) -> Option<Datum> {
    field.into_inner().map(datum)
}

/// The bytes of a datum that holds a `T`.
pub(crate) fn encode_datum<T: Serde>(datum: &Datum) -> UserResult<Bytes> {
    let mut out = Vec::new();
    downcast::<T>(datum)?.encode(&mut out)?;
    Ok(out.into())
}

/// A datum from bytes.
pub(crate) fn decode_datum<T: Serde>(bytes: &Bytes) -> UserResult<Datum> {
    Ok(datum(T::decode(bytes)?))
}

/// The `T` of a datum. The typed DSL connects only operators that agree, so a failure is a defect of the engine.
pub(crate) fn downcast<T: 'static>(datum: &Datum) -> UserResult<&T> {
    datum.downcast_ref::<T>().ok_or_else(|| {
        let wanted = std::any::type_name::<T>();
        format!("an operator was given another type than {wanted}: defect of the engine").into()
    })
}

/// The `T` of a datum that may be null.
pub(crate) fn downcast_option<T: 'static>(datum: Option<&Datum>) -> UserResult<Option<&T>> {
    datum.map(downcast::<T>).transpose()
}

/// A datum as a user's function takes it. The outer `None` is a null that the type does not expect.
pub(crate) fn view<F: Field>(datum: Option<&Datum>) -> UserResult<Option<F::Ref<'_>>> {
    Ok(F::view(downcast_option::<F::Inner>(datum)?))
}
