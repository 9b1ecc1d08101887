//! Tables for people, JSON for programs.

use std::io::{self, Write};

use anyhow::Context;
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

use crate::arguments::Format;

/// Prints one message: as JSON, or as the lines of `table`.
pub(crate) fn show<M: Message>(
    format: Format,
    name: &str,
    message: &M,
    table: impl FnOnce(&M) -> Table,
) -> anyhow::Result<()> {
    match format {
        Format::Json => print(&json(name, message)?),
        Format::Table => print(table(message).to_string().trim_end()),
    }
}

/// A message of `vidi.v1` as JSON, in one line; fields have the API's names and defaults are there.
pub(crate) fn json<M: Message>(name: &str, message: &M) -> anyhow::Result<String> {
    let pool = DescriptorPool::decode(vidi_proto::FILE_DESCRIPTOR_SET)?;
    let descriptor = pool
        .get_message_by_name(&format!("vidi.v1.{name}"))
        .with_context(|| format!("there is no message vidi.v1.{name}"))?;
    let dynamic = DynamicMessage::decode(descriptor, message.encode_to_vec().as_slice())?;
    let options = SerializeOptions::new().use_proto_field_name(true).skip_default_fields(false);
    let mut bytes = Vec::new();
    let mut serializer = serde_json::Serializer::new(&mut bytes);
    dynamic.serialize_with_options(&mut serializer, &options)?;
    Ok(String::from_utf8(bytes)?)
}

/// One line to standard output. A reader that went away is no error.
pub(crate) fn print(line: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    match writeln!(out, "{line}").and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => done.context("cannot write to standard output"),
    }
}

/// A sentence for people; programs read the exit code.
pub(crate) fn done(format: Format, sentence: &str) -> anyhow::Result<()> {
    match format {
        Format::Table => print(sentence),
        Format::Json => print("{}"),
    }
}

/// Rows with aligned columns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    /// With these headings.
    pub(crate) fn new<const N: usize>(headings: [&str; N]) -> Self {
        Self { rows: vec![headings.map(str::to_owned).to_vec()] }
    }

    /// A list of names and values, without headings.
    pub(crate) fn of_fields<'a>(fields: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let rows = fields.into_iter().filter(|(_, value)| !value.is_empty());
        Self { rows: rows.map(|(name, value)| vec![format!("{name}:"), value]).collect() }
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.to_vec());
    }
}

impl std::fmt::Display for Table {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut widths: Vec<usize> = Vec::new();
        for row in &self.rows {
            for (index, cell) in row.iter().enumerate() {
                let width = plain(cell).chars().count();
                match widths.get_mut(index) {
                    Some(widest) => *widest = width.max(*widest),
                    None => widths.push(width),
                }
            }
        }
        for row in &self.rows {
            let cells: Vec<_> = row
                .iter()
                .zip(&widths)
                .map(|(cell, width)| format!("{:width$}", plain(cell)))
                .collect();
            writeln!(formatter, "{}", cells.join("  ").trim_end())?;
        }
        Ok(())
    }
}

/// What others typed must not move the cursor or colour the screen.
pub(crate) fn plain(cell: &str) -> String {
    cell.chars().map(|letter| if letter.is_control() { '?' } else { letter }).collect()
}

/// The last part of a resource name.
pub(crate) fn short(name: &str) -> String {
    name.rsplit('/').next().unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use vidi_proto::v1::{ListUsersResponse, User};

    #[test]
    fn columns_are_aligned_and_control_letters_are_not_printed() {
        let mut table = Table::new(["USER", "NAME"]);
        table.row(["ana".to_owned(), "Ana \u{1b}[31m García".to_owned()]);
        table.row(["someone".to_owned(), String::new()]);
        assert_eq!(table.to_string(), "USER     NAME\nana      Ana ?[31m García\nsomeone\n");
    }

    #[test]
    fn json_has_the_names_of_the_api() {
        let users = ListUsersResponse {
            users: vec![User { name: "tenants/t/users/a".to_owned(), ..User::default() }],
            next_page_token: String::new(),
        };
        let text = json("ListUsersResponse", &users).unwrap();
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["users"][0]["name"], "tenants/t/users/a");
        assert_eq!(value["users"][0]["display_name"], "");
        assert_eq!(value["next_page_token"], "");
    }
}
