//! JUnit XML.
//!
//! Read are `testsuites` and `testsuite`, nested as they like, and in them `testcase` with `failure`, `error` or `skipped`.
//! Other elements are passed over. A case's name is `classname::name`, or its `name` where it has no class.
//!
//! The counts that a suite claims (`tests`, `failures`, `errors`, `skipped`) must be those of its cases. A document type is
//! refused, so that there are no entities but the five of XML itself; so are documents that nest deeper than
//! [`DEPTH_MAX`] or hold more than [`CASES_MAX`] cases.

use evoseal_types::{TestCase, TestReport, TestStatus};
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};

use super::{Error, NAME_CHARS_MAX, make_unique, message};
use crate::text;

/// How deep elements may nest.
pub const DEPTH_MAX: usize = 64;
/// How many cases a document may hold.
pub const CASES_MAX: usize = 200_000;
/// How much text of one case is kept while reading, in bytes; what is shown in the end is less.
const SAID_BYTES_MAX: usize = 64 << 10;

/// Reads a document; the report gets the type `test_type`.
///
/// ```
/// use evoseal_adapters::parse::junit;
///
/// let report = junit::parse("unit_tests", r#"
///     <testsuite name="math" tests="2" failures="1">
///       <testcase classname="math" name="adds"/>
///       <testcase classname="math" name="divides"><failure message="by zero"/></testcase>
///     </testsuite>"#)?;
/// assert_eq!((report.tests_run, report.tests_failed), (2, 1));
/// assert_eq!(report.cases[1].message.as_deref(), Some("by zero"));
/// # Ok::<(), evoseal_adapters::parse::Error>(())
/// ```
pub fn parse(test_type: &str, xml: &str) -> Result<TestReport, Error> {
    let xml = xml.trim_start_matches('\u{feff}');
    let mut reader = Reader::from_str(xml);
    let mut document = Document::default();
    loop {
        let place = reader.buffer_position();
        // Counting lines up to here is left to the one error that ends the reading.
        let at = |reason: String| {
            let read = usize::try_from(place).unwrap_or(usize::MAX).min(xml.len());
            let line = xml.as_bytes()[..read].split(|byte| *byte == b'\n').count();
            Error::at(line, reason)
        };
        let event = reader.read_event().map_err(|error| at(format!("it is not XML: {error}")))?;
        match event {
            Event::Start(element) => document.open(&element).map_err(at)?,
            Event::Empty(element) => {
                document.open(&element).map_err(at)?;
                document.close().map_err(at)?;
            }
            Event::End(_) => document.close().map_err(at)?,
            Event::Text(said) => document.say(&said).map_err(at)?,
            Event::CData(said) => document.say(&said).map_err(at)?,
            Event::GeneralRef(reference) => {
                let character = match &*reference {
                    "lt" => '<',
                    "gt" => '>',
                    "amp" => '&',
                    "apos" => '\'',
                    "quot" => '"',
                    other => match reference.resolve_char_ref() {
                        Ok(Some(character)) => character,
                        _ => return Err(at(format!("entity {:?} is not known", text::line(other, 40)))),
                    },
                };
                document.say(character.encode_utf8(&mut [0; 4])).map_err(at)?;
            }
            Event::DocType(_) => return Err(at("a document type is not allowed".to_owned())),
            Event::Decl(_) | Event::PI(_) | Event::Comment(_) => {}
            Event::Eof => return document.finish(test_type).map_err(at),
        }
    }
}

/// What was read so far.
#[derive(Debug, Default)]
struct Document {
    open: Vec<Open>,
    cases: Vec<TestCase>,
    complete: bool,
}

/// An element that was opened.
#[derive(Debug)]
enum Open {
    /// A suite, or the collection of all.
    Suite { claimed: Counts, own: Counts, nested: Counts },
    /// A test.
    Case { name: String, seen: Counts, said: String },
    /// What a test said about its end.
    Result,
    /// Something that does not matter here.
    Other,
}

/// Tests, failures, errors and skipped ones. A case with both a failure and an error counts as both.
#[derive(Debug, Clone, Copy, Default)]
struct Counts([Option<u64>; 4]);

const COUNTED: [&str; 4] = ["tests", "failures", "errors", "skipped"];

impl Counts {
    fn zero() -> Self {
        Self([Some(0); 4])
    }

    fn add(&mut self, other: Self) {
        for (sum, count) in self.0.iter_mut().zip(other.0) {
            *sum = Some(sum.unwrap_or(0).saturating_add(count.unwrap_or(0)));
        }
    }
}

impl Document {
    fn open(&mut self, element: &BytesStart<'_>) -> Result<(), String> {
        if self.open.len() == DEPTH_MAX {
            return Err(format!("elements nest deeper than {DEPTH_MAX}"));
        }
        let name = element.local_name();
        let opened = match (name.as_ref(), self.open.last()) {
            (_, None) if self.complete => return Err("a second document follows the first".to_owned()),
            ("testsuites" | "testsuite", None | Some(Open::Suite { .. })) => {
                Open::Suite { claimed: claimed(element)?, own: Counts::zero(), nested: Counts::zero() }
            }
            (other, None) => {
                return Err(format!("it starts with <{}>, not with a test suite", text::line(other, 40)));
            }
            ("testcase", Some(Open::Suite { .. })) => {
                if self.cases.len() == CASES_MAX {
                    return Err(format!("there are more than {CASES_MAX} cases"));
                }
                let mut seen = Counts::zero();
                seen.0[0] = Some(1);
                Open::Case { name: case_name(element)?, seen, said: String::new() }
            }
            (result @ ("failure" | "error" | "skipped"), Some(Open::Case { .. })) => {
                self.result(result, element)?;
                Open::Result
            }
            _ => Open::Other,
        };
        self.open.push(opened);
        Ok(())
    }

    /// Notes how the innermost case ended.
    fn result(&mut self, result: &str, element: &BytesStart<'_>) -> Result<(), String> {
        let reason = attribute(element, "message")?;
        if let Some(Open::Case { seen, said, .. }) = self.open.last_mut() {
            let index = match result {
                "failure" => 1,
                "error" => 2,
                _ => 3,
            };
            seen.0[index] = Some(1);
            append(said, reason.as_deref().unwrap_or_default());
            append(said, "\n");
        }
        Ok(())
    }

    fn say(&mut self, text: &str) -> Result<(), String> {
        match self.open.as_mut_slice() {
            [] if !text.trim().is_empty() => Err("text stands outside the document".to_owned()),
            [.., Open::Case { said, .. }, Open::Result] => {
                append(said, text);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn close(&mut self) -> Result<(), String> {
        match self.open.pop() {
            Some(Open::Suite { claimed, own, nested }) => {
                let mut all = own;
                all.add(nested);
                // Runners that nest suites count either what is directly in one or all that is in it.
                let counts = COUNTED.iter().zip(claimed.0).zip(own.0.into_iter().zip(all.0));
                for ((what, claimed), (own, all)) in counts {
                    if claimed.is_some() && claimed != own && claimed != all {
                        let (claimed, all) = (claimed.unwrap_or_default(), all.unwrap_or_default());
                        return Err(format!("a suite claims {what}=\"{claimed}\" and {all} are listed"));
                    }
                }
                match self.open.last_mut() {
                    Some(Open::Suite { nested, .. }) => nested.add(all),
                    _ => self.complete = true,
                }
            }
            Some(Open::Case { name, seen, said }) => {
                if let Some(Open::Suite { own, .. }) = self.open.last_mut() {
                    own.add(seen);
                }
                let status = match seen.0 {
                    [_, _, Some(1), _] => TestStatus::Error,
                    [_, Some(1), ..] => TestStatus::Fail,
                    [.., Some(1)] => TestStatus::Skip,
                    _ => TestStatus::Pass,
                };
                self.cases.push(TestCase { name, status, message: message(&said) });
            }
            Some(Open::Result | Open::Other) => {}
            None => return Err("an element is closed that was not opened".to_owned()),
        }
        Ok(())
    }

    fn finish(mut self, test_type: &str) -> Result<TestReport, String> {
        if !self.complete || !self.open.is_empty() {
            return Err("it ends before its end".to_owned());
        }
        make_unique(&mut self.cases);
        Ok(TestReport::from_cases(test_type, self.cases))
    }
}

fn append(said: &mut String, text: &str) {
    if said.len() + text.len() <= SAID_BYTES_MAX {
        said.push_str(text);
    }
}

fn claimed(element: &BytesStart<'_>) -> Result<Counts, String> {
    let mut counts = Counts::default();
    for (count, name) in counts.0.iter_mut().zip(COUNTED) {
        if let Some(text) = attribute(element, name)? {
            let number = text.trim().parse();
            *count = Some(number.map_err(|_| format!("{name}={:?} is no count", text::line(&text, 40)))?);
        }
    }
    Ok(counts)
}

fn case_name(element: &BytesStart<'_>) -> Result<String, String> {
    let name = attribute(element, "name")?.ok_or("a case has no name")?;
    let class = attribute(element, "classname")?.filter(|class| !class.is_empty());
    let name = class.map_or_else(|| name.clone(), |class| format!("{class}::{name}"));
    match text::line(&name, NAME_CHARS_MAX) {
        name if name.is_empty() => Err("a case has no name".to_owned()),
        name => Ok(name),
    }
}

/// The value of an attribute. All of them are read, so that one that stands twice is found whichever is asked for.
fn attribute(element: &BytesStart<'_>, name: &str) -> Result<Option<String>, String> {
    let unreadable = |error: &dyn std::fmt::Display| format!("an attribute cannot be read: {error}");
    let mut value = None;
    for attribute in element.attributes() {
        let attribute = attribute.map_err(|error| unreadable(&error))?;
        if attribute.key.as_ref() == name {
            let text = attribute.normalized_value(XmlVersion::Implicit1_0);
            value = Some(text.map_err(|error| unreadable(&error))?.into_owned());
        }
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(xml: &str) -> Result<TestReport, Error> {
        parse("unit_tests", xml)
    }

    fn names(report: &TestReport) -> Vec<(&str, TestStatus)> {
        report.cases.iter().map(|case| (case.name.as_str(), case.status)).collect()
    }

    #[test]
    fn nested_suites_and_every_ending_are_read() {
        let report = read(
            r#"<?xml version="1.0" encoding="UTF-8"?>
            <testsuites tests="5" failures="1" errors="1" skipped="1" time="0.5">
              <testsuite name="outer" tests="5">
                <properties><property name="a" value="b"/></properties>
                <testcase name="a" classname="m"/>
                <testcase name="b"><failure message="x &lt; y">left &amp; <![CDATA[<right>]]></failure></testcase>
                <testsuite name="inner" tests="3" skipped="1" errors="1">
                  <testcase name="c"><error/><system-out>noise</system-out></testcase>
                  <testcase name="d"><skipped/></testcase>
                  <testcase name="a" classname="m"></testcase>
                </testsuite>
              </testsuite>
            </testsuites>"#,
        )
        .unwrap();
        let expected = [
            ("b", TestStatus::Fail),
            ("c", TestStatus::Error),
            ("d", TestStatus::Skip),
            ("m::a", TestStatus::Pass),
            ("m::a #2", TestStatus::Pass),
        ];
        assert_eq!(names(&report), expected);
        assert_eq!(report.cases[0].message.as_deref(), Some("x < y\nleft & <right>"));
        assert_eq!((report.tests_run, report.tests_skipped), (4, 1));
        report.check().unwrap();
    }

    #[test]
    fn counts_that_contradict_the_cases_are_an_error() {
        for claim in [r#"tests="2""#, r#"failures="1""#, r#"skipped="1""#, r#"errors="x""#, r#"tests="-1""#] {
            assert!(
                read(&format!("<testsuite {claim}><testcase name='a'/></testsuite>")).is_err(),
                "{claim}"
            );
        }
    }

    #[test]
    fn a_suite_without_cases_is_a_report_of_no_tests() {
        assert_eq!(read("<testsuites/>").unwrap().tests_run, 0);
        assert_eq!(read("\u{feff}<?xml version='1.0'?>\n<testsuites></testsuites>\n").unwrap().tests_run, 0);
    }

    #[test]
    fn documents_that_are_cut_short_or_something_else_are_errors() {
        for bad in [
            "",
            "   ",
            "<html/>",
            "<testsuite>",
            "<testsuite><testcase name='a'>",
            "<testsuite><testcase name='a'></testsuite>",
            "<testsuite/><testsuite/>",
            "<testsuite/>trailing",
            "<testsuite><testcase/></testsuite>",
            "<testsuite><testcase name=''/></testsuite>",
            "<testsuite><testcase name='a' name='b'/></testsuite>",
            "<testsuite><testcase name='&boom;'/></testsuite>",
            "<testsuite><testcase name='a'><failure>&boom;</failure></testcase></testsuite>",
            "<!DOCTYPE t [<!ENTITY a \"b\">]><testsuite><testcase name='a'/></testsuite>",
        ] {
            assert!(read(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn nesting_is_bounded() {
        let nested =
            |depth: usize| format!("{}{}", "<testsuite>".repeat(depth), "</testsuite>".repeat(depth));
        assert!(read(&nested(DEPTH_MAX)).is_ok());
        let error = read(&nested(DEPTH_MAX + 1)).unwrap_err();
        assert!(error.reason.contains("deeper than 64"), "{error}");
    }
}
