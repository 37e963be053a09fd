import CSwitchover
import DemoGuest
import Glibc
import QEMUHarness

/// One migration with local disks through the C interface, between QEMUs of the harness.
final class DiskMigration {
  struct Outcome {
    var end: Int32
    var owner: Int32
    var guest: Int32
    var failure: String
    var text: String
    var nextStep: String
    var summary: String
    var warnings: [String]
  }

  let pair: QEMUPair
  let load: GuestImage.DiskLoad
  private var loop: OpaquePointer?
  private var migration: OpaquePointer?
  private(set) var warnings: [String] = []
  private(set) var phases: [Int32] = []
  /// What the host program answers when a hand-over is wanted; nil: it takes its time.
  var handOverResult: Int32? = 1

  /// A pair whose guest writes numbered sectors to each disk all the time.
  static func pair(
    _ version: QEMUVersion, disks: [QEMUPair.DiskOptions], sectors: UInt32 = 500,
    change: (inout QEMUPair.Options) -> Void = { _ in }
  ) throws -> QEMUPair {
    var options = QEMUPair.Options(version)
    options.common.guest.disks = GuestImage.DiskLoad(count: UInt8(disks.count), sectors: sectors)
    options.incoming = .unix
    options.disks = disks
    change(&options)
    return try QEMUPair(options)
  }

  init(
    _ pair: QEMUPair, handOver: swo_hand_over = .SWO_HAND_OVER_NONE, fast: Bool = true,
    nbdAt address: String? = nil, outOfBand: Bool = false, addsDisks: Bool = true,
    monitors: [Side: String] = [:]
  ) throws {
    self.pair = pair
    load = pair.source.options.guest.disks ?? GuestImage.DiskLoad(sectors: 1)
    try check(swo_loop_new(&loop))
    try check(swo_migration_new(loop, &migration))
    for (number, side) in Side.allCases.enumerated() {
      let path = monitors[side] ?? pair.process(side).monitorPaths[0]
      try check(swo_migration_set_monitor(migration, Int32(number + 1), path))
    }
    if outOfBand {
      try check(swo_migration_set_oob_monitor(migration, pair.source.monitorPaths[1]))
    }
    try check(swo_migration_set_uri(migration, pair.migrationAddress))
    try check(swo_migration_set_source_end(migration, 1))
    try check(swo_migration_set_hand_over(migration, Int32(handOver.rawValue)))
    try check(swo_migration_set_fast_order(migration, fast ? 1 : 0))
    try check(swo_migration_set_monitor_deadlines(migration, 5000, 5000))
    guard addsDisks else { return }
    let listen = "unix:" + pair.directory.file("nbd.sock")
    try check(swo_migration_set_nbd(migration, address ?? listen, listen))
    for disk in pair.mirroredDisks { try addDisk(disk) }
  }

  deinit { abandon() }

  /// Lets go of everything without a word to either QEMU, as the end of this process would.
  func abandon() {
    swo_migration_free(migration)
    swo_loop_free(loop)
    (migration, loop) = (nil, nil)
  }

  var handle: OpaquePointer? { migration }

  func addDisk(_ disk: Int) throws {
    let node = QEMUProcess.nodeName(disk: disk)
    try check(swo_migration_add_disk(migration, node, node, node, 0))
  }

  func check(_ code: Int32) throws {
    if code < 0 { throw HarnessError(String(cString: swo_last_error())) }
  }

  func start() throws { try check(swo_migration_start(migration)) }

  /// Whether it is in this phase, or has been.
  func hasReached(_ phase: Int32) -> Bool { self.phase == phase || phases.contains(phase) }

  /// Every mirror has begun to copy, and none is done.
  var isCopying: Bool {
    (0..<swo_migration_disk_count(migration)).allSatisfy { index in
      var (done, total): (UInt64, UInt64) = (0, 0)
      return swo_migration_disk(migration, index, nil, &done, &total) == 0 && done > 0
        && done < total
    }
  }

  var phase: Int32 { swo_migration_phase(migration) }

  /// The parts of the blackout, after the end.
  var ledger: [(name: String, microseconds: Int64)] {
    (0..<max(swo_migration_ledger_count(migration), 0)).map { index in
      var (name, length): (UnsafePointer<CChar>?, Int64) = (nil, 0)
      _ = swo_migration_ledger_part(migration, index, &name, nil, &length)
      return (name.map { String(cString: $0) } ?? "", length)
    }
  }

  /// Turns the loop until the predicate holds or the migration has ended; answers whether it holds.
  @discardableResult
  func pump(
    until limit: Duration = .seconds(120), _ predicate: (DiskMigration) -> Bool
  ) throws -> Bool {
    let end = MonotonicTime.now + limit
    while !predicate(self) {
      if swo_migration_end(migration) != 0 { return false }
      guard MonotonicTime.now < end else {
        throw HarnessError(
          "the migration stands in phase \(String(cString: swo_phase_name(phase)))")
      }
      try turn(waiting: 50)
    }
    return true
  }

  /// Turns the loop once; between two turns the migration stands still where it is.
  func turn(waiting milliseconds: Int32) throws {
    try check(swo_loop_dispatch(loop, milliseconds))
    try takeEvents()
  }

  /// Answers a hand-over that waits, or the one to come.
  func answerHandOver(_ result: Int32) throws {
    handOverResult = result
    if phase == 7 { try check(swo_migration_handed_over(migration, result)) }
  }

  private func takeEvents() throws {
    var event: OpaquePointer?
    while swo_loop_next_event(loop, &event) == 1 {
      switch swo_event_kind(rawValue: UInt32(swo_event_kind_of(event))) {
      case .SWO_EVENT_WARNING: warnings.append(String(cString: swo_event_text(event)))
      case .SWO_EVENT_PHASE: phases.append(swo_event_phase(event))
      case .SWO_EVENT_HAND_OVER_WANTED:
        if let handOverResult { try check(swo_migration_handed_over(migration, handOverResult)) }
      default: break
      }
      swo_event_free(event)
    }
  }

  /// Turns the loop until the end.
  func finish(within limit: Duration = .seconds(120)) throws -> Outcome {
    try pump(until: limit) { _ in false }
    try takeEvents()
    func text(_ pointer: UnsafePointer<CChar>?) -> String {
      pointer.map { String(cString: $0) } ?? ""
    }
    return Outcome(
      end: swo_migration_end(migration), owner: swo_migration_owner(migration),
      guest: swo_migration_guest(migration),
      failure: text(swo_failure_name(swo_migration_failure(migration))),
      text: text(swo_migration_failure_text(migration)),
      nextStep: text(swo_migration_next_step(migration)),
      summary: text(swo_migration_summary(migration)), warnings: warnings)
  }

  func run() throws -> Outcome {
    try start()
    return try finish()
  }
}
