//! Delivery status notifications: multipart/report as RFC 3464 and RFC 6522 define it.
