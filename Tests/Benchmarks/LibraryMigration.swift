import CSwitchover
import Glibc
import QEMUHarness

/// One migration by the library, in a loop of its own.
final class LibraryMigration {
  private var loop: OpaquePointer?
  private var migration: OpaquePointer?

  init(source: String, target: String, uri: String, handOver: swo_hand_over) throws {
    try check(swo_loop_new(&loop))
    try check(swo_migration_new(loop, &migration))
    try check(swo_migration_set_monitor(migration, 1, source))
    try check(swo_migration_set_monitor(migration, 2, target))
    try check(swo_migration_set_uri(migration, uri))
    try check(swo_migration_set_hand_over(migration, Int32(handOver.rawValue)))
    try check(
      swo_migration_set_source_end(migration, Int32(swo_source_end.SWO_SOURCE_QUIT.rawValue)))
  }

  deinit {
    swo_migration_free(migration)
    swo_loop_free(loop)
  }

  /// By what ssh addresses are reached.
  func setSSH(_ carrier: swo_ssh_carrier, command: [String]) throws {
    let words = command.map { strdup($0) }
    defer { for word in words { free(word) } }
    let list = words.map { UnsafePointer($0) } + [nil]
    try check(swo_loop_set_ssh(loop, Int32(carrier.rawValue), list, 0))
  }

  /// How long a monitor may take to greet, milliseconds.
  func setConnectLimit(_ milliseconds: UInt32) throws {
    try check(swo_migration_set_monitor_deadlines(migration, milliseconds, milliseconds))
  }

  func start() throws { try check(swo_migration_start(migration)) }

  /// One turn of the loop; what it wrote to its log.
  func turn() throws -> [String] {
    try check(swo_loop_dispatch(loop, 10))
    var lines: [String] = []
    var event: OpaquePointer?
    while swo_loop_next_event(loop, &event) == 1 {
      defer { swo_event_free(event) }
      let kind = swo_event_kind(rawValue: UInt32(bitPattern: swo_event_kind_of(event)))
      if kind == .SWO_EVENT_LOG { lines.append(String(cString: swo_event_text(event))) }
      if kind == .SWO_EVENT_FINISHED { throw failure }
    }
    return lines
  }

  /// The whole of it; a hand-over takes no time.
  func run() throws {
    try start()
    while true {
      let state = swo_migration_run(migration, -1)
      try check(state)
      if state == 2 { try check(swo_migration_handed_over(migration, 1)) }
      if state == 1 { break }
    }
    guard swo_migration_end(migration) == 1 else { throw failure }
  }

  /// The ledger: names and milliseconds.
  var ledger: [(name: String, length: Double)] {
    (0..<max(swo_migration_ledger_count(migration), 0)).map { index in
      var name: UnsafePointer<CChar>?
      var length: Int64 = 0
      _ = swo_migration_ledger_part(migration, index, &name, nil, &length)
      return (name.map { String(cString: $0) } ?? "", Double(length) / 1000)
    }
  }

  private var failure: HarnessError {
    HarnessError(String(cString: swo_migration_summary(migration)))
  }

  private func check(_ code: Int32) throws {
    if code < 0 { throw HarnessError(String(cString: swo_last_error())) }
  }
}
