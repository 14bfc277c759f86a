//! End-to-end tests: dialogs, scenarios, real peers, faults.
