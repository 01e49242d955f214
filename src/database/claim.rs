//! Which tables' rows daykeep copies. What is not claimed here stays with pg_dump.

use super::catalog::Table;

/// On a server without TID range scans (before 14) a table is copied in one piece, and only up to this size.
const WHOLE_TABLE_LIMIT: u64 = 32 * 1024 * 1024;
/// Each claimed table is an argument of pg_dump; all together stay well below the kernel's limit of 2 MiB.
const ARGUMENT_BUDGET: usize = 1024 * 1024;

/// What a claim depends on besides the table.
#[derive(Debug, Clone, Copy)]
pub struct Circumstances<'a> {
    /// `server_version_num`.
    pub server_version: u32,
    /// The server is a standby.
    pub standby: bool,
    /// The database's encoding.
    pub encoding: &'a str,
}

/// Which of `tables` are ours, by their place in the list.
#[must_use]
pub fn claimed(tables: &[Table], circumstances: Circumstances<'_>) -> Vec<usize> {
    let mut spent = 0;
    let mut ours = Vec::new();
    for (place, table) in tables.iter().enumerate() {
        if !may_claim(table, circumstances) {
            continue;
        }
        spent += argument_cost(table);
        if spent > ARGUMENT_BUDGET {
            break;
        }
        ours.push(place);
    }
    ours
}

fn may_claim(table: &Table, circumstances: Circumstances<'_>) -> bool {
    // The server cannot read unlogged tables during recovery, and pg_dump leaves them out then.
    let unreadable = table.unlogged && circumstances.standby;
    // pg_dump takes names on its command line in the database's encoding, which is UTF-8 here.
    let speakable = table.speakable
        && (matches!(circumstances.encoding, "UTF8" | "SQL_ASCII")
            || (table.schema.is_ascii() && table.name.is_ascii()));
    let in_reach = circumstances.server_version >= 140_000 || table.bytes <= WHOLE_TABLE_LIMIT;
    table.plain
        && table.heap
        // Of an extension's tables only pg_dump knows which rows are the user's.
        && !table.member
        // Rows below hash partitioning on an enum must be routed anew: enum values hash by OID.
        && !table.enum_hash
        && !unreadable
        && speakable
        && in_reach
}

/// Bytes of `--exclude-table-data="s"."t"` with its pointer.
fn argument_cost(table: &Table) -> usize {
    "--exclude-table-data=".len() + 2 * (table.schema.len() + table.name.len()) + 16
}

#[cfg(test)]
mod tests {
    use super::{Circumstances, claimed};
    use crate::database::catalog::Table;

    const NOW: Circumstances<'_> =
        Circumstances { server_version: 150_018, standby: false, encoding: "UTF8" };

    fn table() -> Table {
        Table {
            oid: 1,
            schema: "public".into(),
            name: "t".into(),
            speakable: true,
            plain: true,
            heap: true,
            unlogged: false,
            member: false,
            enum_hash: false,
            bytes: 0,
        }
    }

    fn is_ours(table: Table, circumstances: Circumstances<'_>) -> bool {
        !claimed(&[table], circumstances).is_empty()
    }

    #[test]
    fn plain_heap_tables_are_ours_and_nothing_else() {
        assert!(is_ours(table(), NOW));
        assert!(is_ours(Table { unlogged: true, ..table() }, NOW));
        assert!(!is_ours(Table { plain: false, ..table() }, NOW));
        assert!(!is_ours(Table { heap: false, ..table() }, NOW));
        assert!(!is_ours(Table { member: true, ..table() }, NOW));
        assert!(!is_ours(Table { enum_hash: true, ..table() }, NOW));
        assert!(!is_ours(Table { speakable: false, ..table() }, NOW));
    }

    #[test]
    fn circumstances_count() {
        let standby = Circumstances { standby: true, ..NOW };
        assert!(is_ours(table(), standby));
        assert!(!is_ours(Table { unlogged: true, ..table() }, standby));
        let latin = Circumstances { encoding: "LATIN1", ..NOW };
        assert!(is_ours(table(), latin));
        assert!(!is_ours(Table { name: "café".into(), ..table() }, latin));
        let old = Circumstances { server_version: 130_020, ..NOW };
        assert!(is_ours(Table { bytes: 1 << 20, ..table() }, old));
        assert!(!is_ours(Table { bytes: 1 << 30, ..table() }, old));
    }

    #[test]
    fn the_command_line_of_pg_dump_stays_bounded() {
        let many: Vec<Table> = (0..50_000).map(|_| Table { name: "n".repeat(60), ..table() }).collect();
        let ours = claimed(&many, NOW).len();
        assert!((5_000..10_000).contains(&ours), "{ours}");
    }
}
