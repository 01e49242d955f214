//! The adapter `fossology` against the stand-in of its scheduler and a real PostgreSQL.
