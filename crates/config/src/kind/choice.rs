//! One of a few words.

use std::marker::PhantomData;

use super::{Kind, Shape, Wrong, quoted};
use crate::suggest::nearest;

/// An enum whose variants have names in the file; made by `choices!`.
pub(crate) trait Choices: Copy + PartialEq + 'static {
    /// Every variant with its name.
    const ALL: &'static [(&'static str, Self)];
    /// What each of them means, in the same order.
    const DOCS: &'static [&'static [&'static str]];
}

/// One of the words of `E`.
pub(crate) struct Choice<E>(PhantomData<E>);

impl<E: Choices> Kind for Choice<E> {
    type Value = E;
    const NOUN: &'static str = "one of the words";

    fn allowed() -> String {
        let names: Vec<String> = E::ALL.iter().map(|(name, _)| quoted(name)).collect();
        names.join(", ")
    }

    fn words() -> Vec<(&'static str, &'static [&'static str])> {
        E::ALL.iter().map(|(name, _)| *name).zip(E::DOCS.iter().copied()).collect()
    }

    fn parse(text: &str) -> Result<E, Wrong> {
        let found = E::ALL.iter().find(|(name, _)| *name == text).map(|&(_, value)| value);
        found.ok_or_else(|| match nearest(text, E::ALL.iter().map(|&(name, _)| name)) {
            Some(name) => Wrong::because::<Self>(text, format!("is unknown, did you mean {}?", quoted(name))),
            None => Wrong::because::<Self>(text, "is unknown"),
        })
    }

    fn show(value: &E) -> String {
        E::ALL.iter().find(|(_, each)| each == value).map(|(name, _)| quoted(name)).unwrap_or_default()
    }
}

/// Yes, no, or one of the words of `E`, which has `true` and `false` among them.
pub(crate) struct FlagOr<E>(PhantomData<E>);

impl<E: Choices> Kind for FlagOr<E> {
    type Value = E;
    const NOUN: &'static str = "true, false or one of the words";
    const SHAPE: Shape = Shape::StringOrBoolean;

    fn allowed() -> String {
        let names: Vec<String> = E::ALL.iter().map(|(name, _)| Self::SHAPE.literal(name)).collect();
        names.join(", ")
    }

    fn words() -> Vec<(&'static str, &'static [&'static str])> {
        Choice::<E>::words()
    }

    fn parse(text: &str) -> Result<E, Wrong> {
        Choice::<E>::parse(text).map_err(|wrong| Wrong { allowed: Self::allowed(), ..wrong })
    }

    fn show(value: &E) -> String {
        E::ALL.iter().find(|(_, each)| each == value).map(|(name, _)| Self::SHAPE.literal(name)).unwrap_or_default()
    }
}
