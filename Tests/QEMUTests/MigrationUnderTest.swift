import CSwitchover
import Glibc
import QEMUHarness
import SwitchoverABI

/// One migration through the C interface, driven by the test's own loop.
///
/// The library does something only while a test pumps; in between a test can act on QEMU, and the
/// library finds out afterwards, like one whose host program was late.
final class MigrationUnderTest {
  /// What the setters are given.
  struct Settings {
    var handOver = swo_hand_over.SWO_HAND_OVER_NONE
    /// What becomes of the source; nil leaves it unsaid.
    var sourceEnd: swo_source_end? = .SWO_SOURCE_KEEP
    var sourceMonitor: String
    var targetMonitor: String
    var sharesSourceMonitor = false
    var uri: String
    var incomingURI: String?
    var bandwidth: UInt64?
    var downtimeLimit: (first: UInt32, highest: UInt32)?
    var capabilities: [String: Bool] = [:]
    var parameters: [String: String] = [:]
    var connectLimit: UInt32 = 30_000
    var reconnectLimit: UInt32 = 30_000
    var transferDeadline: UInt64 = 0
    var ssh: SSH?
    /// Disks to mirror, each exported under its node's name, and where the NBD server listens.
    var disks: [String] = []
    var nbd: String?
  }

  /// How ssh addresses are reached.
  struct SSH {
    var carrier = swo_ssh_carrier.SWO_SSH_AUTO
    var command: [String]
    var loginMilliseconds: UInt32 = 0
  }

  /// A part of the ledger.
  struct LedgerPart: Equatable {
    var name: String
    var start: Int64
    var length: Int64
  }

  private let loop: OpaquePointer
  private let migration: OpaquePointer
  /// Every phase that was entered, in order.
  private(set) var phases: [swo_phase] = []
  private(set) var warnings: [String] = []
  private(set) var log: [String] = []
  private(set) var progressEvents = 0
  /// How many times a hand-over was asked for.
  private(set) var handOversWanted = 0
  private(set) var isFinished = false

  /// Prepares a migration of a pair; nothing is started.
  init(_ pair: QEMUPair, _ change: (inout Settings) -> Void = { _ in }) throws {
    var settings = Settings(
      sourceMonitor: "unix:\(pair.source.monitorPaths[0])",
      targetMonitor: "unix:\(pair.target.monitorPaths[0])", uri: pair.migrationAddress)
    change(&settings)
    var made: OpaquePointer?
    try Self.check(swo_loop_new(&made))
    guard let loop = made else { throw HarnessError("no loop") }
    made = nil
    guard swo_migration_new(loop, &made) == 0, let migration = made else {
      swo_loop_free(loop)
      throw HarnessError("no migration: \(String(cString: swo_last_error()))")
    }
    self.loop = loop
    self.migration = migration
    try apply(settings)
  }

  deinit {
    swo_migration_free(migration)
    swo_loop_free(loop)
  }

  // MARK: - Asking

  func start() throws { try Self.check(swo_migration_start(migration)) }

  /// Only the preflight.
  func check() throws { try Self.check(swo_migration_check(migration)) }

  /// Returns the code, and the text where it is an error.
  func cancel() -> (code: swo_code, text: String) {
    let code = swo_migration_cancel(migration)
    return (swo_code(rawValue: code) ?? .SWO_E_INTERNAL, String(cString: swo_last_error()))
  }

  func handedOver(_ result: swo_hand_over_result) throws {
    try Self.check(swo_migration_handed_over(migration, Int32(result.rawValue)))
  }

  func handedBack() throws { try Self.check(swo_migration_handed_back(migration)) }

  func fenced(_ side: swo_side) throws {
    try Self.check(swo_migration_fenced(migration, Int32(side.rawValue)))
  }

  // MARK: - Pumping

  /// Lets the library work until something holds; fails with everything it said otherwise.
  func pump(
    upTo limit: Duration = .seconds(60), until isDone: (MigrationUnderTest) throws -> Bool
  ) throws {
    let deadline = MonotonicTime.now + limit
    while true {
      try takeEvents()
      if try isDone(self) { return }
      guard .now < deadline else { throw HarnessError("nothing came of it: \(story)") }
      let count = swo_loop_dispatch(loop, 10)
      if count != swo_code.SWO_E_INTERRUPTED.rawValue { try Self.check(min(count, 0)) }
    }
  }

  /// Lets the library work for a while.
  func pump(for duration: Duration) throws {
    let end = MonotonicTime.now + duration
    try pump { _ in .now >= end }
  }

  func pump(untilPhase phase: swo_phase) throws {
    try pump { $0.phase == phase || $0.isFinished }
    guard self.phase == phase else { throw HarnessError("it never was in \(phase): \(story)") }
  }

  func pumpUntilHandOverIsWanted(times: Int = 1, upTo limit: Duration = .seconds(60)) throws {
    try pump(upTo: limit) { $0.handOversWanted >= times || $0.isFinished }
    guard !isFinished else { throw HarnessError("no hand-over was wanted: \(story)") }
  }

  /// Lets the library work to the end, and reads how it ended.
  func finish(upTo limit: Duration = .seconds(60)) throws -> Outcome {
    try pump(upTo: limit) { $0.isFinished }
    return outcome
  }

  /// The whole of a migration that needs no answer.
  func run() throws -> Outcome {
    try start()
    return try finish()
  }

  // MARK: - What is known

  var phase: swo_phase {
    swo_phase(rawValue: UInt32(bitPattern: swo_migration_phase(migration))) ?? .SWO_PHASE_IDLE
  }

  var outcome: Outcome { Outcome(of: migration) }

  var summary: String { String(cString: swo_migration_summary(migration)) }

  func number(_ number: swo_number) -> UInt64? {
    var value: UInt64 = 0
    return swo_migration_number(migration, Int32(number.rawValue), &value) == 0 ? value : nil
  }

  var ledger: [LedgerPart] {
    (0..<max(swo_migration_ledger_count(migration), 0)).map { index in
      var name: UnsafePointer<CChar>?
      var (start, length): (Int64, Int64) = (0, 0)
      guard swo_migration_ledger_part(migration, index, &name, &start, &length) == 0, let name
      else { return LedgerPart(name: "?", start: 0, length: 0) }
      return LedgerPart(name: String(cString: name), start: start, length: length)
    }
  }

  // MARK: - Private

  private var story: String {
    let names = phases.map { String(cString: swo_phase_name(Int32($0.rawValue))) }
    return "\(summary); phases \(names), warnings \(warnings), log \(log)"
  }

  private func takeEvents() throws {
    var event: OpaquePointer?
    while swo_loop_next_event(loop, &event) == 1 {
      defer { swo_event_free(event) }
      let text = String(cString: swo_event_text(event))
      switch swo_event_kind(rawValue: UInt32(bitPattern: swo_event_kind_of(event))) {
      case .SWO_EVENT_PHASE:
        phases.append(
          swo_phase(rawValue: UInt32(bitPattern: swo_event_phase(event))) ?? .SWO_PHASE_IDLE)
      case .SWO_EVENT_PROGRESS: progressEvents += 1
      case .SWO_EVENT_HAND_OVER_WANTED: handOversWanted += 1
      case .SWO_EVENT_WARNING: warnings.append(text)
      case .SWO_EVENT_LOG: log.append(text)
      case .SWO_EVENT_FINISHED: isFinished = true
      default: throw HarnessError("an event of kind \(swo_event_kind_of(event))")
      }
    }
  }

  private func apply(_ settings: Settings) throws {
    try Self.check(swo_migration_set_monitor(migration, 1, settings.sourceMonitor))
    try Self.check(swo_migration_set_monitor(migration, 2, settings.targetMonitor))
    if settings.sharesSourceMonitor {
      try Self.check(
        swo_migration_set_monitor_sharing(
          migration, 1, Int32(swo_monitor_sharing.SWO_MONITOR_SHARED.rawValue)))
    }
    try Self.check(swo_migration_set_uri(migration, settings.uri))
    try Self.check(swo_migration_set_hand_over(migration, Int32(settings.handOver.rawValue)))
    if let end = settings.sourceEnd, settings.handOver != .SWO_HAND_OVER_EXTERNAL {
      try Self.check(swo_migration_set_source_end(migration, Int32(end.rawValue)))
    }
    if let uri = settings.incomingURI {
      try Self.check(swo_migration_set_incoming_uri(migration, uri))
    }
    if let bandwidth = settings.bandwidth {
      try Self.check(swo_migration_set_bandwidth(migration, bandwidth))
    }
    if let limit = settings.downtimeLimit {
      try Self.check(swo_migration_set_downtime_limit(migration, limit.first, limit.highest))
    }
    for (name, on) in settings.capabilities.sorted(by: { $0.key < $1.key }) {
      try Self.check(swo_migration_set_capability(migration, name, on ? 1 : 0))
    }
    for (name, json) in settings.parameters.sorted(by: { $0.key < $1.key }) {
      try Self.check(swo_migration_set_parameter(migration, name, json))
    }
    try Self.check(
      swo_migration_set_monitor_deadlines(
        migration, settings.connectLimit, settings.reconnectLimit))
    try Self.check(swo_migration_set_transfer_deadline(migration, settings.transferDeadline))
    try applyStorage(settings)
  }

  private func applyStorage(_ settings: Settings) throws {
    if let nbd = settings.nbd { try Self.check(swo_migration_set_nbd(migration, nbd, nbd)) }
    for disk in settings.disks {
      try Self.check(swo_migration_add_disk(migration, disk, disk, disk, 0))
    }
    if let ssh = settings.ssh { try Self.set(ssh, of: loop) }
  }

  /// Says how a loop reaches ssh addresses.
  static func set(_ ssh: SSH, of loop: OpaquePointer?) throws {
    let words = ssh.command.map { strdup($0) }
    defer { for word in words { free(word) } }
    let list = words.map { UnsafePointer($0) } + [nil]
    try check(
      swo_loop_set_ssh(loop, Int32(ssh.carrier.rawValue), list, ssh.loginMilliseconds))
  }

  private static func check(_ code: Int32) throws {
    guard code < 0 else { return }
    throw HarnessError(
      "\(String(cString: swo_code_name(code))): \(String(cString: swo_last_error()))")
  }
}
