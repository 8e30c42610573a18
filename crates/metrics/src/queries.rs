//! Reading and writing rows.

use std::collections::BTreeMap;

use evoseal_types::{Direction, MetricName, MetricSamples, MetricSpec, Sample, Timestamp, VersionId};
use rusqlite::{Connection, OptionalExtension, Row, ToSql, Transaction, TransactionBehavior, params};

use crate::check::check_record;
use crate::schema::Failure;
use crate::{Error, NewRecord, Record, RecordFilter};

/// Bytes per sample in a blob: start, iteration, the bits of the value.
const SAMPLE_LEN: usize = 16;

type Result<T> = std::result::Result<T, Failure>;

/// Stores sessions in one transaction, which costs one sync however many they are.
pub(crate) fn append(connection: &mut Connection, records: &[NewRecord]) -> Result<Vec<u64>> {
    // The write lock first, so that what is checked is still true when it is written.
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut sequence: i64 =
        transaction.query_one("SELECT coalesce(max(sequence), 0) FROM records", [], |row| row.get(0))?;
    let mut known = BTreeMap::new();
    let mut given = Vec::with_capacity(records.len());
    for record in records {
        sequence += 1;
        append_one(&transaction, record, sequence, &mut known)?;
        given.push(
            u64::try_from(sequence).map_err(|_| Failure::Damaged(format!("sequence number {sequence}")))?,
        );
    }
    transaction.commit()?;
    Ok(given)
}

/// Stores one session; `known` are the metrics that were looked up or inserted so far.
fn append_one(
    transaction: &Transaction<'_>,
    record: &NewRecord,
    sequence: i64,
    known: &mut BTreeMap<MetricName, (i64, MetricSpec)>,
) -> Result<()> {
    for metric in &record.metrics {
        if !known.contains_key(&metric.spec.name)
            && let Some(found) = metric_by_name(transaction, &metric.spec.name)?
        {
            known.insert(metric.spec.name.clone(), found);
        }
    }
    check_record(record, |name| Ok(known.get(name).map(|(_, spec)| spec.clone()))).map_err(Failure::Other)?;
    transaction.prepare_cached("INSERT INTO records VALUES (?, ?, ?, ?, ?)")?.execute(params![
        sequence,
        record.version_id.as_str(),
        record.recorded_at.unix_ns(),
        to_json(&record.test_results)?,
        to_json(&record.tags)?,
    ])?;
    for (key, value) in &record.tags {
        let mut insert = transaction.prepare_cached("INSERT INTO record_tags VALUES (?, ?, ?)")?;
        insert.execute(params![key, value, sequence])?;
    }
    for (position, metric) in (0_i64..).zip(&record.metrics) {
        let id = if let Some((id, _)) = known.get(&metric.spec.name) {
            *id
        } else {
            let id = insert_metric(transaction, &metric.spec)?;
            known.insert(metric.spec.name.clone(), (id, metric.spec.clone()));
            id
        };
        let mut insert = transaction.prepare_cached("INSERT INTO samples VALUES (?, ?, ?, ?)")?;
        insert.execute(params![sequence, position, id, to_blob(&metric.samples)])?;
    }
    Ok(())
}

/// The matching records, all from one moment.
pub(crate) fn records(connection: &mut Connection, filter: &RecordFilter) -> Result<Vec<Record>> {
    let transaction = connection.transaction()?;
    let mut sql = "SELECT sequence, version_id, recorded_at, test_results, tags, \
                   EXISTS (SELECT 1 FROM accepted WHERE accepted.version_id = records.version_id) \
                   FROM records WHERE TRUE"
        .to_owned();
    let mut values: Vec<&dyn ToSql> = Vec::new();
    let version = filter.version_id.as_ref().map(VersionId::as_str);
    if let Some(version) = &version {
        sql += " AND version_id = ?";
        values.push(version);
    }
    let metric = filter.metric.as_ref().map(MetricName::as_str);
    if let Some(metric) = &metric {
        sql += " AND sequence IN (SELECT sequence FROM samples \
                WHERE metric_id = (SELECT id FROM metrics WHERE name = ?))";
        values.push(metric);
    }
    if filter.accepted_only {
        sql += " AND version_id IN (SELECT version_id FROM accepted)";
    }
    for (key, value) in &filter.tags {
        sql += " AND sequence IN (SELECT sequence FROM record_tags WHERE key = ? AND value = ?)";
        values.push(key);
        values.push(value);
    }
    let limit = filter.limit.map_or(-1, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
    sql += " ORDER BY sequence DESC LIMIT ?";
    values.push(&limit);
    let mut statement = transaction.prepare_cached(&sql)?;
    let mut rows = statement.query(values.as_slice())?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read_record(&transaction, row, metric)?);
    }
    found.reverse();
    Ok(found)
}

/// Every known metric, by name.
pub(crate) fn metrics(connection: &Connection) -> Result<Vec<MetricSpec>> {
    let mut statement =
        connection.prepare_cached("SELECT id, name, unit, direction FROM metrics ORDER BY name")?;
    let mut rows = statement.query([])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        found.push(read_spec(row, 1)?);
    }
    Ok(found)
}

/// Remembers or forgets that a version was accepted.
pub(crate) fn set_accepted(connection: &Connection, version_id: &VersionId, accepted: bool) -> Result<()> {
    let sql = if accepted {
        "INSERT OR IGNORE INTO accepted VALUES (?)"
    } else {
        "DELETE FROM accepted WHERE version_id = ?"
    };
    connection.execute(sql, [version_id.as_str()])?;
    Ok(())
}

fn metric_by_name(transaction: &Transaction<'_>, name: &MetricName) -> Result<Option<(i64, MetricSpec)>> {
    let mut statement =
        transaction.prepare_cached("SELECT id, name, unit, direction FROM metrics WHERE name = ?")?;
    let found =
        statement.query_row([name.as_str()], |row| Ok((row.get(0)?, read_spec(row, 1)))).optional()?;
    found.map(|(id, spec)| Ok((id, spec?))).transpose()
}

fn insert_metric(transaction: &Transaction<'_>, spec: &MetricSpec) -> Result<i64> {
    let sql = "INSERT INTO metrics (name, unit, direction) VALUES (?, ?, ?)";
    let direction = spec.direction.to_string();
    transaction.prepare_cached(sql)?.execute(params![spec.name.as_str(), spec.unit, direction])?;
    Ok(transaction.last_insert_rowid())
}

fn read_record(transaction: &Transaction<'_>, row: &Row<'_>, metric: Option<&str>) -> Result<Record> {
    let sequence: i64 = row.get(0)?;
    let damaged = |problem: String| Failure::Damaged(format!("record {sequence}: {problem}"));
    let json = |error: serde_json::Error| damaged(error.to_string());
    let version_id = VersionId::new(row.get::<_, String>(1)?).map_err(|error| damaged(error.to_string()))?;
    Ok(Record {
        sequence: u64::try_from(sequence).map_err(|_| damaged("its number is negative".to_owned()))?,
        accepted: row.get(5)?,
        record: NewRecord {
            version_id,
            recorded_at: Timestamp::from_unix_ns(row.get(2)?),
            metrics: read_samples(transaction, sequence, metric)?,
            test_results: serde_json::from_str(&row.get::<_, String>(3)?).map_err(json)?,
            tags: serde_json::from_str(&row.get::<_, String>(4)?).map_err(json)?,
        },
    })
}

fn read_samples(
    transaction: &Transaction<'_>,
    sequence: i64,
    metric: Option<&str>,
) -> Result<Vec<MetricSamples>> {
    let mut statement = transaction.prepare_cached(
        "SELECT samples, name, unit, direction FROM samples JOIN metrics ON metrics.id = metric_id \
         WHERE sequence = ? AND (?2 IS NULL OR name = ?2) ORDER BY position",
    )?;
    let mut rows = statement.query(params![sequence, metric])?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let samples =
            from_blob(row.get_ref(0)?.as_blob().map_err(|error| Failure::Damaged(error.to_string()))?)?;
        found.push(MetricSamples::new(read_spec(row, 1)?, samples));
    }
    Ok(found)
}

/// Reads name, unit and direction from the column `first` on.
fn read_spec(row: &Row<'_>, first: usize) -> Result<MetricSpec> {
    let name: String = row.get(first)?;
    let direction = match row.get::<_, String>(first + 2)?.as_str() {
        "increase" => Direction::Increase,
        "decrease" => Direction::Decrease,
        other => return Err(Failure::Damaged(format!("metric {name:?} has direction {other:?}"))),
    };
    MetricSpec::new(name, row.get::<_, String>(first + 1)?, direction)
        .map_err(|error| Failure::Damaged(error.to_string()))
}

fn to_blob(samples: &[Sample]) -> Vec<u8> {
    let mut blob = Vec::with_capacity(samples.len() * SAMPLE_LEN);
    for sample in samples {
        blob.extend(sample.start.to_le_bytes());
        blob.extend(sample.iteration.to_le_bytes());
        blob.extend(sample.value.to_bits().to_le_bytes());
    }
    blob
}

fn from_blob(blob: &[u8]) -> Result<Vec<Sample>> {
    let (samples, rest) = blob.as_chunks::<SAMPLE_LEN>();
    if !rest.is_empty() {
        return Err(Failure::Damaged(format!(
            "samples of {} bytes, not a multiple of {SAMPLE_LEN}",
            blob.len()
        )));
    }
    let read = |bytes: &[u8; SAMPLE_LEN]| {
        let number = u128::from_le_bytes(*bytes);
        #[expect(clippy::cast_possible_truncation, reason = "each field is the low bits that are left")]
        Sample::new(number as u32, (number >> 32) as u32, f64::from_bits((number >> 64) as u64))
    };
    Ok(samples.iter().map(read).collect())
}

fn to_json<T: serde::Serialize>(value: &T) -> Result<String> {
    serde_json::to_string(value).map_err(|error| {
        Failure::Other(Error::Invalid { what: "a record".to_owned(), reason: error.to_string() })
    })
}
