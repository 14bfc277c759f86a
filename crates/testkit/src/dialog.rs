//! Transcripts of SMTP dialogues.
