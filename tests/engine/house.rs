//! The rules that keep the rooms apart, read off the sources.
