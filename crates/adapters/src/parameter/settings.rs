//! Settings of the parameter proposer.

use std::collections::BTreeSet;
use std::fmt;

use evoseal_pipeline::{Error, Result};
use evoseal_types::EntryPath;
use serde::de::{self, Deserialize, Deserializer, MapAccess, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};

/// How many values one parameter may have: more than a run could try.
const VALUES_MAX: usize = 10_000;

/// How many parameters there may be; the search is recursive over them.
const PARAMETERS_MAX: usize = 1000;

/// Settings of [`ParameterProposer`](crate::ParameterProposer).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParameterProposerSettings {
    /// The parameters; at least one, each name once.
    pub parameters: Vec<Parameter>,
}

/// A named constant of the program that evolves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// Its name in summaries and in the record of what was tried.
    pub name: String,
    /// The values that it may take.
    pub values: ParameterValues,
    /// The value that the published text stands for where it is written in another way: 12 where the file says `4 * 1024` and
    /// the format is `1 << {value}`. It counts whenever the sites hold no value of the list. Default: none; the text is then a
    /// value of its own, and writing the same in our way is proposed like any other change.
    #[serde(default, deserialize_with = "written", skip_serializing_if = "Option::is_none")]
    pub published: Option<String>,
    /// Where it stands. Several sites are set together, for constants that must agree with each other.
    pub sites: Vec<Site>,
}

/// One place in one file: the text between two literal texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Site {
    /// The file, relative to the workspace. No symlink may stand on the way.
    pub file: EntryPath,
    /// The text right before the site; it must stand in the file exactly once.
    pub before: String,
    /// The text right after the site; its first place behind `before` counts.
    pub after: String,
    /// What is written, with each `{value}` replaced. Default `{value}`; `1 << {value}` and `16 - {value}` keep two coupled
    /// constants in step.
    #[serde(default = "value_alone")]
    pub format: String,
}

fn written<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Written::deserialize(deserializer).map(|Written(text)| Some(text))
}

fn value_alone() -> String {
    "{value}".to_owned()
}

impl Site {
    /// What stands at the site when the parameter has this value.
    pub(crate) fn text_of(&self, value: &str) -> String {
        self.format.replace("{value}", value)
    }
}

/// The values that a parameter may take, as the texts that are written, in order.
///
/// In settings a list of numbers, texts or booleans, or `{ min, max, step }`: `min`, `min + step` and so on up to and
/// with `max`; whole numbers stay whole, `step` defaults to 1.
///
/// ```
/// use evoseal_adapters::Parameter;
///
/// let parameter: Parameter = toml::from_str(r#"
///     name = "load_factor"
///     values = { min = 0.5, max = 0.8, step = 0.1 }
///     sites = [{ file = "src/map.rs", before = "const LOAD: f64 = ", after = ";" }]
/// "#)?;
/// assert_eq!(parameter.values.texts(), ["0.5", "0.6", "0.7", "0.8"]);
/// # Ok::<(), toml::de::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ParameterValues(Vec<String>);

impl ParameterValues {
    /// These texts as values: at least one, at most 10,000, all different, none blank.
    pub fn new<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Result<Self> {
        let texts: Vec<String> = texts.into_iter().take(VALUES_MAX + 1).map(Into::into).collect();
        let mut seen = BTreeSet::new();
        let reason = if texts.is_empty() {
            "there is none".to_owned()
        } else if texts.len() > VALUES_MAX {
            format!("there are more than {VALUES_MAX}")
        } else if let Some(blank) = texts.iter().find(|text| text.trim() != text.as_str() || text.is_empty())
        {
            format!("{blank:?} is empty, or starts or ends with white space")
        } else if let Some(twice) = texts.iter().find(|text| !seen.insert(text.as_str())) {
            format!("{twice:?} stands there twice")
        } else {
            return Ok(Self(texts));
        };
        Err(Error::Invalid { what: "`values`".to_owned(), reason })
    }

    /// The values as they are written.
    pub fn texts(&self) -> &[String] {
        &self.0
    }

    fn range(min: &Number, max: &Number, step: &Number) -> Result<Self> {
        let refuse = |reason: &str| Error::Invalid { what: "`values`".to_owned(), reason: reason.to_owned() };
        if let (Number::Whole(min), Number::Whole(max), Number::Whole(step)) = (min, max, step) {
            if *step <= 0 || min > max {
                return Err(refuse("`step` must be positive and `min` not above `max`"));
            }
            let following = |value: &i64| value.checked_add(*step).filter(|next| next <= max);
            return Self::new(std::iter::successors(Some(*min), following).map(|value| value.to_string()));
        }
        // Rounded to the decimals that were written, or 0.5 + 2 * 0.1 would be 0.7000000000000001 and never be found again.
        let decimals = min.decimals().max(step.decimals()).max(1);
        let (min, max, step) = (min.as_float(), max.as_float(), step.as_float());
        if !(min.is_finite() && max.is_finite() && step.is_finite() && step > 0.0 && min <= max) {
            return Err(refuse("the numbers must be finite, `step` positive and `min` not above `max`"));
        }
        // Half a millionth of a step forgives the rounding of max itself.
        let count = ((max - min) / step + 5e-7).floor();
        let places = (0_u32..).take_while(|place| f64::from(*place) <= count);
        Self::new(places.map(|place| format!("{:.decimals$}", min + f64::from(place) * step)))
    }
}

impl Serialize for ParameterValues {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut list = serializer.serialize_seq(Some(self.0.len()))?;
        for text in &self.0 {
            list.serialize_element(text)?;
        }
        list.end()
    }
}

impl<'de> Deserialize<'de> for ParameterValues {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ListOrRange;
        impl<'de> Visitor<'de> for ListOrRange {
            type Value = ParameterValues;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a list of values, or min, max and step")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<ParameterValues, A::Error> {
                let mut texts = Vec::new();
                while let Some(Written(text)) = list.next_element()? {
                    texts.push(text);
                }
                ParameterValues::new(texts).map_err(de::Error::custom)
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<ParameterValues, A::Error> {
                #[derive(serde::Deserialize)]
                #[serde(deny_unknown_fields)]
                struct Range {
                    min: Number,
                    max: Number,
                    #[serde(default = "one")]
                    step: Number,
                }
                fn one() -> Number {
                    Number::Whole(1)
                }
                let range = Range::deserialize(de::value::MapAccessDeserializer::new(map))?;
                ParameterValues::range(&range.min, &range.max, &range.step).map_err(de::Error::custom)
            }
        }
        deserializer.deserialize_any(ListOrRange)
    }
}

/// A number as it was written.
#[derive(Debug)]
enum Number {
    Whole(i64),
    Float(f64),
}

impl Number {
    fn as_float(&self) -> f64 {
        match self {
            Self::Whole(value) => *value as f64,
            Self::Float(value) => *value,
        }
    }

    /// Digits behind the point; those of the shortest text that reads back as the same number.
    fn decimals(&self) -> usize {
        match self {
            Self::Whole(_) => 0,
            Self::Float(value) => value.to_string().split_once('.').map_or(0, |(_, digits)| digits.len()),
        }
    }
}

impl<'de> Deserialize<'de> for Number {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyNumber;
        impl Visitor<'_> for AnyNumber {
            type Value = Number;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number")
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Number, E> {
                Ok(Number::Whole(value))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Number, E> {
                i64::try_from(value).map(Number::Whole).map_err(E::custom)
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Number, E> {
                Ok(Number::Float(value))
            }
        }
        deserializer.deserialize_any(AnyNumber)
    }
}

/// One value of a list as the text that is written.
struct Written(String);

impl<'de> Deserialize<'de> for Written {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyValue;
        impl Visitor<'_> for AnyValue {
            type Value = Written;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number, a text or a boolean")
            }

            fn visit_str<E: de::Error>(self, value: &str) -> Result<Written, E> {
                Ok(Written(value.to_owned()))
            }

            fn visit_i64<E: de::Error>(self, value: i64) -> Result<Written, E> {
                Ok(Written(value.to_string()))
            }

            fn visit_u64<E: de::Error>(self, value: u64) -> Result<Written, E> {
                Ok(Written(value.to_string()))
            }

            fn visit_f64<E: de::Error>(self, value: f64) -> Result<Written, E> {
                // The debug form keeps the point of 1.0, which most languages need to see a float.
                Ok(Written(format!("{value:?}")))
            }

            fn visit_bool<E: de::Error>(self, value: bool) -> Result<Written, E> {
                Ok(Written(value.to_string()))
            }
        }
        deserializer.deserialize_any(AnyValue)
    }
}

impl ParameterProposerSettings {
    /// Refuses what can be refused without looking at a file.
    pub(crate) fn check(&self) -> Result<()> {
        let refuse = |what: String, reason: &str| Err(Error::Invalid { what, reason: reason.to_owned() });
        if self.parameters.is_empty() {
            return refuse("`parameters`".to_owned(), "there is none");
        }
        if self.parameters.len() > PARAMETERS_MAX {
            return refuse("`parameters`".to_owned(), "there are more than 1000");
        }
        let mut names = BTreeSet::new();
        for Parameter { name, values, published, sites } in &self.parameters {
            let what = || format!("parameter {name:?}");
            if name.trim() != name || name.is_empty() || name.len() > 100 || name.contains(char::is_control) {
                return refuse(
                    what(),
                    "a name has 1 to 100 bytes, no control characters and no white space around",
                );
            }
            if !names.insert(name) {
                return refuse(what(), "the name stands there twice");
            }
            if published.as_ref().is_some_and(|published| !values.texts().contains(published)) {
                return refuse(what(), "`published` is none of its `values`");
            }
            if sites.is_empty() {
                return refuse(what(), "it has no `sites`");
            }
            for site in sites {
                if site.before.is_empty() || site.after.is_empty() {
                    return refuse(what(), "`before` and `after` of a site must not be empty");
                }
                if !site.format.contains("{value}") {
                    return refuse(what(), "`format` of a site must hold {value}");
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(json: &str) -> Result<Vec<String>, String> {
        serde_json::from_str::<ParameterValues>(json)
            .map(|values| values.texts().to_vec())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn lists_and_ranges_give_the_texts_that_are_written() {
        assert_eq!(
            values(r#"[1, -2, 1.0, 0.5, "fast", true]"#).unwrap(),
            ["1", "-2", "1.0", "0.5", "fast", "true"]
        );
        assert_eq!(values(r#"{"min": 10, "max": 15, "step": 2}"#).unwrap(), ["10", "12", "14"]);
        assert_eq!(values(r#"{"min": -1, "max": 1}"#).unwrap(), ["-1", "0", "1"]);
        assert_eq!(values(r#"{"min": 0, "max": 0.3, "step": 0.1}"#).unwrap(), ["0.0", "0.1", "0.2", "0.3"]);
        assert_eq!(values(r#"{"min": 9223372036854775806, "max": 9223372036854775807}"#).unwrap().len(), 2);
    }

    #[test]
    fn values_that_cannot_be_meant_are_refused() {
        for json in [
            "[]",
            "[1, 1]",
            r#"[1, "1"]"#,
            r#"[" a"]"#,
            r#"[""]"#,
            r#"{"min": 2, "max": 1}"#,
            r#"{"min": 1, "max": 2, "step": 0}"#,
            r#"{"min": 1, "max": 2, "step": -0.5}"#,
            r#"{"min": 0, "max": 1000000}"#,
            r#"{"min": 0, "max": 1, "stop": 2}"#,
            "3",
        ] {
            assert!(values(json).is_err(), "{json}");
        }
    }
}
