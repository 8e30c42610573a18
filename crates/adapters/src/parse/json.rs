//! Metrics and test results as one JSON object.
//!
//! ```json
//! {
//!   "metrics": {
//!     "latency": { "value": 12.5, "unit": "ms" },
//!     "throughput": { "value": [101.0, 99.5], "unit": "MB/s" },
//!     "size": 4096,
//!     "accuracy": [0.91, 0.92]
//!   },
//!   "tests": {
//!     "passed": 2, "failed": 1, "errors": 0, "skipped": 0,
//!     "cases": [
//!       { "name": "round_trip", "status": "pass" },
//!       { "name": "empty", "status": "pass" },
//!       { "name": "huge", "status": "fail", "message": "expected 3, got 4" }
//!     ]
//!   }
//! }
//! ```
//!
//! Both parts may be missing, and so may every count and the list of cases; counts that disagree with the list are an
//! error. A list of values is the iterations of a metric, in order. Values that are no numbers are the texts `"NaN"`,
//! `"inf"` and `"-inf"`. Keys other than these, and a key that stands twice, are errors.

use std::collections::BTreeMap;
use std::fmt;

use evoseal_types::{MetricName, TestCase, TestReport};
use serde::Deserialize;
use serde::de::{self, Deserializer, MapAccess, SeqAccess, Visitor};

use super::{Error, NAME_CHARS_MAX, Reading, check_unit, make_unique, message};
use crate::text;

/// What a document says.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Results {
    /// The metrics, by name and then in the order of their iterations.
    pub metrics: Vec<Reading>,
    /// The test results, if there are any. Their type is `tests`; callers name it as they like.
    pub tests: Option<TestReport>,
}

/// Reads a document.
///
/// ```
/// use evoseal_adapters::parse::json;
///
/// let results = json::parse(r#"{"metrics": {"size": 4096}, "tests": {"passed": 3}}"#)?;
/// assert_eq!(results.metrics[0].value, 4096.0);
/// assert_eq!(results.tests.map(|tests| tests.tests_run), Some(3));
/// # Ok::<(), evoseal_adapters::parse::Error>(())
/// ```
pub fn parse(text: &str) -> Result<Results, Error> {
    let document: Document = serde_json::from_str(text).map_err(|error| match error.line() {
        0 => Error::new(error.to_string()),
        line => Error::at(line, error.to_string()),
    })?;
    let mut metrics = Vec::new();
    for (name, Values { values, unit }) in document.metrics.unwrap_or_default().0 {
        if let Some(unit) = &unit {
            check_unit(unit).map_err(|reason| Error::new(format!("metric {name}: {reason}")))?;
        }
        let readings =
            values.into_iter().map(|value| Reading { name: name.clone(), value, unit: unit.clone() });
        metrics.extend(readings);
    }
    Ok(Results { metrics, tests: document.tests.map(report).transpose()? })
}

fn report(tests: Tests) -> Result<TestReport, Error> {
    let counts = [
        ("passed", tests.passed),
        ("failed", tests.failed),
        ("errors", tests.errors),
        ("skipped", tests.skipped),
    ];
    let Some(mut cases) = tests.cases else {
        let [passed, failed, errors, skipped] = counts.map(|(_, count)| count.unwrap_or(0));
        let report = TestReport::from_counts("tests", passed, failed, errors, skipped);
        report.check().map_err(|error| Error::new(error.to_string()))?;
        return Ok(report);
    };
    for case in &mut cases {
        case.name = text::line(&case.name, NAME_CHARS_MAX);
        case.message = case.message.as_deref().and_then(message);
    }
    make_unique(&mut cases);
    let report = TestReport::from_cases("tests", cases);
    let counted = [report.tests_passed, report.tests_failed, report.tests_errors, report.tests_skipped];
    for ((name, claimed), counted) in counts.into_iter().zip(counted) {
        if claimed.is_some_and(|claimed| claimed != counted) {
            return Err(Error::new(format!(
                "{name} is {} and {counted} such cases are listed",
                claimed.unwrap_or_default()
            )));
        }
    }
    Ok(report)
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    metrics: Option<Metrics>,
    tests: Option<Tests>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Tests {
    passed: Option<u64>,
    failed: Option<u64>,
    errors: Option<u64>,
    skipped: Option<u64>,
    cases: Option<Vec<TestCase>>,
}

/// A map that refuses a name that stands twice: the last of two values is as good a guess as the first.
#[derive(Default)]
struct Metrics(BTreeMap<MetricName, Values>);

impl<'de> Deserialize<'de> for Metrics {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Once;
        impl<'de> Visitor<'de> for Once {
            type Value = Metrics;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object of metrics by name")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Metrics, A::Error> {
                let mut metrics = BTreeMap::new();
                while let Some((name, values)) = map.next_entry::<MetricName, Values>()? {
                    if metrics.insert(name.clone(), values).is_some() {
                        return Err(de::Error::custom(format!("metric {name} stands there twice")));
                    }
                }
                Ok(Metrics(metrics))
            }
        }
        deserializer.deserialize_map(Once)
    }
}

/// A number, a list of numbers, or either with a unit.
struct Values {
    values: Vec<f64>,
    unit: Option<String>,
}

impl<'de> Deserialize<'de> for Values {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Form::Any)
    }
}

/// Which forms of values are allowed at a place.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Form {
    /// All of them.
    Any,
    /// A number or a list.
    Flat,
    /// A number.
    One,
}

impl Form {
    fn one(value: f64) -> Values {
        Values { values: vec![value], unit: None }
    }
}

impl<'de> Visitor<'de> for Form {
    type Value = Values;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Any => "a number, a list of numbers, or an object with value and unit",
            Self::Flat => "a number or a list of numbers",
            Self::One => "a number",
        })
    }

    fn visit_f64<E: de::Error>(self, value: f64) -> Result<Values, E> {
        Ok(Self::one(value))
    }

    fn visit_u64<E: de::Error>(self, value: u64) -> Result<Values, E> {
        Ok(Self::one(value as f64))
    }

    fn visit_i64<E: de::Error>(self, value: i64) -> Result<Values, E> {
        Ok(Self::one(value as f64))
    }

    fn visit_str<E: de::Error>(self, text: &str) -> Result<Values, E> {
        match text {
            "NaN" => Ok(Self::one(f64::NAN)),
            "inf" => Ok(Self::one(f64::INFINITY)),
            "-inf" => Ok(Self::one(f64::NEG_INFINITY)),
            _ => Err(E::invalid_value(de::Unexpected::Str(text), &self)),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Values, A::Error> {
        if self == Self::One {
            return Err(de::Error::invalid_type(de::Unexpected::Seq, &self));
        }
        let mut values = Vec::new();
        while let Some(One(value)) = list.next_element()? {
            values.extend(value.values);
        }
        Ok(Values { values, unit: None })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Values, A::Error> {
        if self != Self::Any {
            return Err(de::Error::invalid_type(de::Unexpected::Map, &self));
        }
        let WithUnit { value: Flat(found), unit } =
            WithUnit::deserialize(de::value::MapAccessDeserializer::new(map))?;
        Ok(Values { values: found.values, unit })
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WithUnit {
    value: Flat,
    unit: Option<String>,
}

/// Values without a unit.
struct Flat(Values);

impl<'de> Deserialize<'de> for Flat {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Form::Flat).map(Self)
    }
}

/// One value of a list.
struct One(Values);

impl<'de> Deserialize<'de> for One {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(Form::One).map(Self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evoseal_types::TestStatus;

    #[test]
    fn every_form_of_a_metric_is_read() {
        let text = r#"{"metrics": {"a": 1, "b": [2, "NaN"], "c": {"value": -3.5, "unit": "ms"},
                       "d": {"value": [4, 5], "unit": "%"}, "e": {"value": "inf"}, "f": []}}"#;
        let shown: Vec<_> = parse(text).unwrap().metrics.iter().map(ToString::to_string).collect();
        let expected = ["a=1", "b=2", "b=NaN", "c=-3.5 ms", "d=4 %", "d=5 %", "e=inf"];
        assert_eq!(shown, expected.map(|line| format!("METRIC {line}")));
    }

    #[test]
    fn cases_are_counted_and_counts_must_agree() {
        let cases =
            r#""cases": [{"name": "b", "status": "pass"}, {"name": "a", "status": "fail", "message": "no"}]"#;
        let report = parse(&format!(r#"{{"tests": {{"passed": 1, {cases}}}}}"#)).unwrap().tests.unwrap();
        assert_eq!((report.status, report.tests_run, report.cases.len()), (TestStatus::Fail, 2, 2));
        let error = parse(&format!(r#"{{"tests": {{"passed": 2, {cases}}}}}"#)).unwrap_err();
        assert_eq!(error.reason, "passed is 2 and 1 such cases are listed");
    }

    #[test]
    fn documents_that_do_not_say_one_thing_are_errors() {
        for bad in [
            "",
            "[]",
            "null",
            r#"{"metrics": {"a": 1, "a": 2}}"#,
            r#"{"metrics": {"a": 1}, "metrics": {"a": 2}}"#,
            r#"{"metric": {"a": 1}}"#,
            r#"{"metrics": {"a": null}}"#,
            r#"{"metrics": {"a": true}}"#,
            r#"{"metrics": {"a": "many"}}"#,
            r#"{"metrics": {"a": [[1]]}}"#,
            r#"{"metrics": {"a": [[]]}}"#,
            r#"{"metrics": {"a": {"value": {"value": 1}}}}"#,
            r#"{"metrics": {"a": {"unit": "ms"}}}"#,
            r#"{"metrics": {"a": {"value": 1, "unit": "m s"}}}"#,
            r#"{"metrics": {"a": 1e999}}"#,
            r#"{"metrics": {"two words": 1}}"#,
            r#"{"tests": {"passed": -1}}"#,
            r#"{"tests": {"passed": 18446744073709551615, "failed": 1}}"#,
            r#"{"tests": {"cases": [{"name": "a", "status": "great"}]}}"#,
            "{} {}",
        ] {
            assert!(parse(bad).is_err(), "{bad}");
        }
        assert_eq!(parse("{}").unwrap(), Results::default());
    }
}
