//! What tests share: a real Redis, a fake DNS, certificates, free ports, scratch folders.
