import CSwitchover
import DemoGuest
import Glibc
import QEMUHarness
import Testing

/// Every situation of this folder: one after the other, for each has the machine to itself.
@Suite("Real QEMUs", .serialized)
struct RealQEMUs {}

/// A pair of real QEMUs before a migration, and the proofs of who has the guest after it.
final class Situation {
  let pair: QEMUPair
  private var settings: [Side: [String: JSONValue]] = [:]
  /// Between source and target on the migration's way, if there is one.
  private(set) var relay: Relay?

  init(_ version: QEMUVersion, _ change: (inout QEMUPair.Options) -> Void = { _ in }) throws {
    var options = QEMUPair.Options(version)
    change(&options)
    pair = try QEMUPair(options)
    try rememberSettings()
  }

  /// What both have now is what they must have in the end.
  func rememberSettings() throws {
    for side in Side.allCases { settings[side] = try pair.process(side).migrationSettings }
  }

  var source: QEMUProcess { pair.source }
  var target: QEMUProcess { pair.target }
  var directory: TemporaryDirectory { pair.directory }

  /// The migration of this pair; the source is kept unless told otherwise.
  func migration(
    _ handOver: swo_hand_over, _ change: (inout MigrationUnderTest.Settings) -> Void = { _ in }
  ) throws -> MigrationUnderTest {
    try MigrationUnderTest(pair) { settings in
      settings.handOver = handOver
      if let relay {
        settings.uri = relay.endpoint.migrationAddress
        settings.incomingURI = pair.migrationAddress
      }
      change(&settings)
    }
  }

  // MARK: - Guests

  /// A guest whose QEMU stands still when it panics.
  static func panickingGuest(_ options: inout QEMUPair.Options) {
    options.common.hasPanicDevice = true
    options.common.arguments = ["-action", "panic=pause"]
  }

  /// A guest on a shared disk, whose QEMU stands still when the source's way to a certain sector fails.
  static func guestOnFaultyDisk(_ options: inout QEMUPair.Options) {
    options.common.guest.disks = GuestImage.DiskLoad(sectors: 100)
    var disk = QEMUPair.DiskOptions()
    disk.isShared = true
    disk.sectors = 1 << 16
    disk.hasFaultyBlock = true
    disk.errorAction = "stop"
    options.disks = [disk]
  }

  // MARK: - Making time

  /// A guest that dirties memory faster than a `slow` migration sends it.
  static func busyGuest(_ options: inout QEMUPair.Options) {
    options.common.guest.memory = GuestImage.MemoryLoad(mebibytes: 32, pagesPerTick: 64)
  }

  /// A transfer that does not end before `letTransferEnd`.
  static func slow(_ settings: inout MigrationUnderTest.Settings) {
    settings.bandwidth = 4 << 20
  }

  /// The guest comes to rest and QEMU may send at full rate.
  func letTransferEnd() throws {
    try source.serial.send(.stopLoad)
    try source.monitor.execute("migrate-set-parameters", ["max-bandwidth": .integer(1 << 40)])
  }

  /// The guest obeys and is stopped by QEMU for it; then QEMU may send at full rate.
  func letTransferEnd(afterCommand command: GuestCommand) throws {
    try source.serial.send(command)
    try source.monitor.waitForEvent("STOP")
    try source.monitor.execute("migrate-set-parameters", ["max-bandwidth": .integer(1 << 40)])
  }

  /// Starts a migration and returns when its RAM travels.
  func startTransfer(_ migration: MigrationUnderTest) throws {
    try migration.start()
    try migration.pump { $0.phase == .SWO_PHASE_TRANSFERRING || $0.isFinished }
    let source = source.monitor
    try migration.pump { try $0.isFinished || source.migrationStatus() == "active" }
    try #require(migration.phase == .SWO_PHASE_TRANSFERRING)
  }

  /// A guest with so much memory in use that its last part takes seconds through a slow relay.
  static func heavyGuest(_ options: inout QEMUPair.Options) {
    options.common.guest.memory = GuestImage.MemoryLoad(mebibytes: 96, pagesPerTick: 128)
  }

  /// A switchover that begins at once, with nearly all memory still to be sent.
  static func longBlackout(_ settings: inout MigrationUnderTest.Settings) {
    settings.bandwidth = 8 << 20
    settings.downtimeLimit = (2_000_000, 0)
  }

  /// Starts a migration of a `heavyGuest` by a relay; its source then sends for seconds after STOP,
  /// unless the relay is made faster.
  func startHeavyTransfer(_ migration: MigrationUnderTest) throws {
    relay?.change(.forward) { $0.bytesPerSecond = 4 << 20 }
    // All its memory has to be in use.
    guard source.serial.waitForTicks(600, upTo: .seconds(60)) else {
      throw HarnessError("the guest does not tick")
    }
    try migration.start()
    try migration.pump(untilPhase: .SWO_PHASE_TRANSFERRING)
  }

  /// The same, and returns when the library knows of the STOP.
  func startBlackout(_ migration: MigrationUnderTest) throws {
    try startHeavyTransfer(migration)
    try migration.pump(untilPhase: .SWO_PHASE_SWITCHING_OVER)
  }

  /// Puts a relay on the migration's way; to be called before `migration`.
  func useRelay() throws -> Relay {
    let relay = try Relay(
      listeningOn: .unix(directory.file("relay.sock")), forwardingTo: pair.migrationEndpoint)
    self.relay = relay
    return relay
  }

  /// Puts a relay before a side's monitor; the kernel then names no QEMU as the library's peer.
  func monitorRelay(to side: Side) throws -> Relay {
    try Relay(
      listeningOn: .unix(directory.file("\(side)-monitor-relay.sock")),
      forwardingTo: .unix(pair.process(side).monitorPaths[0]))
  }

  /// Holds what the source sends, up to what the relay's queue takes: a source without
  /// `return-path` says `completed` while the target is still loading.
  func holdLoad() throws {
    try useRelay().change(.forward) { $0.bytesPerSecond = 20_000 }
  }

  func releaseLoad() {
    relay?.change(.forward) { $0.bytesPerSecond = nil }
  }

  // MARK: - Proofs

  /// It ended in this way, or in one of several where chance decides.
  func expect(
    _ outcome: Outcome, _ allowed: Outcome...,
    sourceLocation: SourceLocation = #_sourceLocation
  ) {
    #expect(allowed.contains(outcome), "\(outcome)", sourceLocation: sourceLocation)
  }

  /// It ended with the guest on the source because the target ended; whether its end was noticed
  /// before the source's failure is left to chance.
  func expectTargetLost(
    _ outcome: Outcome, sourceLocation: SourceLocation = #_sourceLocation
  ) {
    var plain = outcome
    if outcome.failure?.code == .SWO_FAILURE_MIGRATION {
      let text = outcome.failure?.text ?? ""
      #expect(text.hasPrefix("migration failed: "), "\(text)", sourceLocation: sourceLocation)
      plain.failure?.text = ""
    }
    let failure = Outcome.Failure(
      .SWO_FAILURE_MIGRATION, .SWO_SIDE_SOURCE, command: "migrate", text: "")
    expect(
      plain, .failed(.targetEndedInTransfer), .failed(failure),
      .failed(failure, nextStep: Outcome.endTarget), sourceLocation: sourceLocation)
  }

  /// The guest runs on one side, stands on the other, and nothing of it is lost.
  func expectGuestRuns(
    on side: Side, sourceLocation: SourceLocation = #_sourceLocation
  ) {
    #expect(throws: Never.self, sourceLocation: sourceLocation) {
      try self.pair.ticks.assertSilent(side.other)
      try self.pair.ticks.assertNothingLost()
    }
  }

  /// The guest stands on both sides.
  func expectGuestStands(sourceLocation: SourceLocation = #_sourceLocation) {
    #expect(throws: Never.self, sourceLocation: sourceLocation) {
      try self.pair.ticks.assertSilentOnBothSides()
      try self.pair.ticks.assertNothingLost()
    }
  }

  /// The guest arrived standing; only its owner's `cont` makes it run, from where it stood.
  func expectGuestArrivedStanding(
    state: String = "paused", sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    expectGuestStands(sourceLocation: sourceLocation)
    #expect(try target.monitor.runState() == state, sourceLocation: sourceLocation)
    #expect(
      !target.monitor.events.contains { $0.name == "RESUME" }, sourceLocation: sourceLocation)
    expectNothingLeftOn(sourceLocation: sourceLocation)
  }

  /// Resumes the guest on a side by hand: it goes on from where it stood.
  func expectGuestGoesOn(
    on side: Side, sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    try pair.process(side).monitor.execute("cont")
    expectGuestRuns(on: side, sourceLocation: sourceLocation)
  }

  /// Whoever still lives has the capabilities and parameters that it had before.
  func expectNothingLeftOn(
    except ignored: Side? = nil, sourceLocation: SourceLocation = #_sourceLocation
  ) {
    for side in Side.allCases where side != ignored {
      let process = pair.process(side)
      do {
        let now = try process.migrationSettings
        let changed = now.filter { $0.value != settings[side]?[$0.key] }
        // A target whose migration has failed ends by itself, now or in a moment.
        if changed != [:], side == .target, process.waitForExit(upTo: .seconds(5)) != nil {
          continue
        }
        #expect(changed == [:], "\(side)", sourceLocation: sourceLocation)
      } catch {
        #expect(
          process.waitForExit(upTo: .seconds(10)) != nil, "\(side): \(error)",
          sourceLocation: sourceLocation)
      }
    }
  }

  /// A client that knows nothing of the library migrates the source to a new target.
  func expectSourceMigratesByHand(sourceLocation: SourceLocation = #_sourceLocation) {
    #expect(throws: Never.self, sourceLocation: sourceLocation) {
      let second = try self.pair.withNewTarget(named: "second")
      try self.source.serial.send(.stopLoad)
      try second.migrateByHand()
      try second.ticks.assertSilent(.source)
      try second.ticks.assertNothingLost()
    }
  }

  /// All that must hold where the source keeps a running guest: it runs there, nothing of ours is
  /// left, and the next migration succeeds.
  func expectSourceUnharmed(sourceLocation: SourceLocation = #_sourceLocation) {
    expectGuestRuns(on: .source, sourceLocation: sourceLocation)
    expectNothingLeftOn(sourceLocation: sourceLocation)
    expectSourceMigratesByHand(sourceLocation: sourceLocation)
  }

  /// A process has ended, in the way that is expected.
  func expectExit(
    of side: Side, _ exit: ChildProcess.Exit, sourceLocation: SourceLocation = #_sourceLocation
  ) {
    #expect(
      pair.process(side).waitForExit() == exit, "\(pair.process(side).standardError)",
      sourceLocation: sourceLocation)
  }
}

extension QEMUProcess {
  /// What `query-migrate-capabilities` and `query-migrate-parameters` say.
  var migrationSettings: [String: JSONValue] {
    get throws {
      var settings: [String: JSONValue] = [:]
      for entry in try monitor.execute("query-migrate-capabilities").array ?? [] {
        settings["capability \(entry["capability"]?.string ?? "")"] = entry["state"]
      }
      if case .object(let parameters) = try monitor.execute("query-migrate-parameters") {
        for (name, value) in parameters { settings["parameter \(name)"] = value }
      }
      return settings
    }
  }
}

extension Relay {
  /// Where it listens, as the C interface takes it.
  var address: String { endpoint.migrationAddress }
}
