//! Whole numbers within bounds, ratios, yes and no.

use std::fmt::Display;
use std::marker::PhantomData;

use super::{Kind, Shape, Wrong};

/// A whole number from `MIN` to `MAX`.
pub(crate) struct Number<T, const MIN: i64, const MAX: i64>(PhantomData<T>);

impl<T: TryFrom<i64> + Display, const MIN: i64, const MAX: i64> Kind for Number<T, MIN, MAX> {
    type Value = T;
    const NOUN: &'static str = "a whole number";
    const SHAPE: Shape = Shape::Integer;

    fn allowed() -> String {
        format!("a whole number from {MIN} to {MAX}")
    }

    fn parse(text: &str) -> Result<T, Wrong> {
        let number: i64 = text.parse().map_err(|_| Wrong::not::<Self>(text))?;
        let within = Some(number).filter(|n| (MIN..=MAX).contains(n));
        within.and_then(|n| T::try_from(n).ok()).ok_or_else(|| Wrong::because::<Self>(text, "is out of range"))
    }

    fn show(value: &T) -> String {
        value.to_string()
    }
}

/// A part of a whole: more than 0, at most 1.
pub(crate) struct Ratio;

impl Kind for Ratio {
    type Value = f64;
    const NOUN: &'static str = "a ratio";
    const SHAPE: Shape = Shape::Float;

    fn allowed() -> String {
        "a number above 0 and up to 1, such as 0.85".into()
    }

    fn parse(text: &str) -> Result<f64, Wrong> {
        let within = |ratio: &f64| *ratio > 0.0 && *ratio <= 1.0;
        text.parse().ok().filter(within).ok_or_else(|| Wrong::not::<Self>(text))
    }

    fn show(value: &f64) -> String {
        format!("{value:?}")
    }
}

/// A part of all: none, all or something between.
pub(crate) struct Share;

impl Kind for Share {
    type Value = f64;
    const NOUN: &'static str = "a part of all";
    const SHAPE: Shape = Shape::Float;

    fn allowed() -> String {
        "a number from 0 to 1, such as 0.05".into()
    }

    fn parse(text: &str) -> Result<f64, Wrong> {
        let share = text.parse().ok().filter(|share| (0.0..=1.0).contains(share));
        share.ok_or_else(|| Wrong::not::<Self>(text))
    }

    fn show(value: &f64) -> String {
        Ratio::show(value)
    }
}

/// Yes or no.
pub(crate) struct Flag;

impl Kind for Flag {
    type Value = bool;
    const NOUN: &'static str = "true or false";
    const SHAPE: Shape = Shape::Boolean;

    fn allowed() -> String {
        "true, false".into()
    }

    fn parse(text: &str) -> Result<bool, Wrong> {
        text.parse().map_err(|_| Wrong::not::<Self>(text))
    }

    fn show(value: &bool) -> String {
        value.to_string()
    }
}
