//! The integration tests, one binary: each module holds the cases of one behaviour.

<<<<<<< HEAD
mod namespace;
mod system_tools;
=======
mod invalid;
>>>>>>> main
