//! Asking the server what a cross-check's query yields, before anything is held for it.

use tokio_postgres::types::Type;

use crate::config::{Check, CheckQuery, Repository};
use crate::database::Prepared;

use super::{Error, FILES, GOLD};

/// Every check's query is one that the server understands, with columns that mean what they should.
///
/// # Errors
/// One is not; the error names its check, or its database.
pub async fn ask_all(repository: &Repository, database: Option<&Prepared>) -> Result<(), Error> {
    let Some(database) = database else { return Ok(()) };
    for check in repository.checks.values() {
        ask(check, database).await?;
    }
    Ok(())
}

/// One check's.
///
/// # Errors
/// See [`ask_all`].
pub async fn ask(check: &Check, database: &Prepared) -> Result<(), Error> {
    match &check.query {
        CheckQuery::Sql(sql) => {
            let columns = database.columns_of(&check.database, sql).await?;
            let problem = |problem| Error::CheckQuery { check: check.name.clone(), problem };
            fitting(&columns).map_err(problem)
        }
        CheckQuery::Fossology { files, .. } => {
            database.columns_of(&check.database, GOLD).await?;
            if *files {
                database.columns_of(&check.database, FILES).await?;
            }
            Ok(())
        }
    }
}

/// Path, and if there are more columns size and owner.
fn fitting(columns: &[Type]) -> Result<(), String> {
    let is_text = |column: &Type| [Type::TEXT, Type::VARCHAR, Type::BPCHAR, Type::NAME].contains(column);
    match columns.first() {
        None => return Err("the query yields no column; the first must be the path".to_owned()),
        Some(path) if !is_text(path) => {
            return Err(format!(
                "the first column must be the path as text, relative to the tree, not {path}: write it as `...::text`"
            ));
        }
        Some(_) => {}
    }
    if let Some(size) = columns.get(1).filter(|size| ![&Type::INT8, &Type::INT4].contains(size)) {
        return Err(format!(
            "the second column must be the size in bytes as integer or bigint, not {size}: write it as `...::bigint`"
        ));
    }
    match columns.get(2).filter(|owner| !is_text(owner)) {
        Some(owner) => Err(format!(
            "the third column must say as text what is hurt when the file is missing, not {owner}: write it as \
             `...::text`"
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{Type, fitting};

    #[test]
    fn columns_mean_what_they_should() {
        assert_eq!(fitting(&[Type::TEXT]), Ok(()));
        assert_eq!(fitting(&[Type::VARCHAR, Type::INT4, Type::TEXT]), Ok(()));
        let said = |columns: &[Type]| fitting(columns).unwrap_err();
        assert_eq!(said(&[]), "the query yields no column; the first must be the path");
        assert_eq!(
            said(&[Type::INT4]),
            "the first column must be the path as text, relative to the tree, not int4: write it as `...::text`"
        );
        assert_eq!(
            said(&[Type::TEXT, Type::NUMERIC]),
            "the second column must be the size in bytes as integer or bigint, not numeric: write it as `...::bigint`"
        );
        assert!(said(&[Type::TEXT, Type::INT8, Type::INT8]).starts_with("the third column"));
    }
}
