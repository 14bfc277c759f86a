//! The SMTP frontend: takes mail from users and trusted networks and puts it into the queue.
