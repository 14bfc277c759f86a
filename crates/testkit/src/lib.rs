//! What tests share: a fake DNS, Redis servers, a Redis Cluster, a server that speaks S3, a network that breaks, certificates, DKIM signatures, tokens, web servers, free ports, child processes, transcripts.
//!
//! Everything here is hermetic: loopback addresses, scratch folders, own children ended by pid.

pub mod certs;
pub mod child;
pub mod dialog;
pub mod dkim;
pub mod dns;
pub mod dovecot;
pub mod fuzz;
pub mod ports;
pub mod proxy;
pub mod redis_cluster;
pub mod redis_server;
pub mod s3;
pub mod tokens;
pub mod web;
