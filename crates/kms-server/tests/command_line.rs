//! The `dewpoint` command: its help, and one clear line for everything that stops a start.
