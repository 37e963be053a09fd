import Foundation
import MigrationEngine
import MigrationSession
import Platform
import QEMUHarness
import Testing

@testable import Runtime

extension RuntimeTests {
  /// Real pairs of QEMUs: what the loop carries out moves a guest.
  @Suite struct MigrationTests {
    @Test func aGuestMoves() throws {
      let pair = try QEMUPair()
      let loop = try Loop()
      let migration = try Self.migration(in: loop, pair) { $0.handOver = .none }
      try migration.request(.start)
      var events: [LoopEvent] = []
      try loop.wait(collecting: &events) { _ in migration.isFinished ? true : nil }
      #expect(
        migration.conclusion?.end == .completed, "\(String(describing: migration.conclusion))")
      #expect(migration.owner == .target)
      #expect(migration.ledger.blackout != nil)
      #expect(pair.ticks.isTicking(.target))
      try pair.ticks.assertSilent(.source)
      try pair.ticks.assertNothingLost()
      guard case .finished? = events.last?.content else {
        Issue.record("the last event is \(String(describing: events.last?.content))")
        return
      }
      #expect(!loop.isReadable)
    }

    @Test func theHostProgramHandsOverAndTheJournalHasTheOutcome() throws {
      let pair = try QEMUPair()
      let loop = try Loop()
      let path = pair.directory.file("journal")
      let migration = try Self.migration(in: loop, pair, journal: path) {
        $0.handOver = .beforeResume
        $0.isJournaled = true
      }
      #expect(throws: MigrationSetupError.journal(.held)) {
        try Self.migration(in: loop, pair, journal: path) { $0.isJournaled = true }
      }
      try migration.request(.start)
      #expect(try loop.wait { migration.isHandOverWanted || migration.isFinished })
      #expect(migration.isHandOverWanted)
      #expect(migration.phase == .handingOver)
      #expect(eventually { (try? pair.source.monitor.runState()) == "postmigrate" })
      #expect(try pair.target.monitor.runState() == "paused")
      migration.isHandOverWanted = false
      try migration.request(.handedOver(.done))
      #expect(try loop.wait { migration.isFinished })
      #expect(
        migration.conclusion?.end == .completed, "\(String(describing: migration.conclusion))")
      let text = try String(contentsOfFile: path, encoding: .utf8)
      #expect(text.hasPrefix("switchover-journal "))
      #expect(text.contains("completed"))
      // What has ended holds nothing.
      _ = try JournalFile(path: path, create: false)
    }

    @Test func aTargetThatDiesIsNoticedByItsProcess() throws {
      let pair = try QEMUPair()
      let loop = try Loop()
      let migration = try Self.migration(in: loop, pair) {
        $0.handOver = .none
        // Slow enough to be met on its way.
        $0.bandwidthBytesPerSecond = 1 << 20
      }
      try migration.request(.start)
      #expect(try loop.wait { migration.phase == .transferring || migration.isFinished })
      pair.target.close()
      #expect(try loop.wait { migration.isFinished })
      #expect(migration.conclusion?.end == .failed, "\(String(describing: migration.conclusion))")
      #expect(migration.owner == .source)
      #expect(pair.ticks.isTicking(.source))
    }

    @Test func aCancelLeavesTheGuestWhereItIs() throws {
      let pair = try QEMUPair()
      let loop = try Loop()
      let migration = try Self.migration(in: loop, pair) {
        $0.handOver = .none
        $0.bandwidthBytesPerSecond = 1 << 20
      }
      try migration.request(.start)
      #expect(try loop.wait { migration.phase == .transferring || migration.isFinished })
      #expect(migration.canCancel)
      try migration.request(.cancel)
      #expect(try loop.wait { migration.isFinished })
      #expect(
        migration.conclusion?.end == .cancelled, "\(String(describing: migration.conclusion))")
      #expect(pair.ticks.isTicking(.source))
      try pair.ticks.assertSilent(.target)
    }

    @Test func afterTheLoopTheMigrationAnswersClosed() throws {
      let pair = try QEMUPair()
      let loop = try Loop()
      let migration = try Self.migration(in: loop, pair) { $0.handOver = .none }
      try migration.request(.start)
      loop.close()
      #expect(throws: LoopError.closed) { try migration.request(.cancel) }
      #expect(migration.conclusion == nil)
      migration.close()
    }

    @Test func anUnencryptedWayOffThisMachineIsWarnedOf() throws {
      var options = MigrationOptions()
      let cases: [(String, String?)] = [
        ("tcp:192.0.2.1:4444", "192.0.2.1"), ("tcp:[2001:db8::1]:4444", "2001:db8::1"),
        ("tcp:node2:4444", "node2"), ("tcp:127.0.0.1:4444", nil), ("tcp:[::1]:4444", nil),
        ("tcp:localhost:4444", nil), ("unix:/run/x", nil), ("fd:ram", nil), ("tcp:", nil),
        ("tcp::", nil),
      ]
      for (uri, host) in cases {
        options.uri = uri
        #expect(ClearText.host(of: options) == host, "\(uri)")
      }
      options.uri = "tcp:192.0.2.1:4444"
      options.parameters = [("tls-creds", .string("tls0"))]
      #expect(ClearText.host(of: options) == nil)
    }

    @Test func aDescriptorTravelsWithItsCommand() throws {
      let pair = try QEMUPair()
      let loop = try Loop()
      let client = try readyClient(in: loop, at: pair.source.monitorPaths[1])
      let null = open("/dev/null", O_RDWR | O_CLOEXEC)
      defer { close(null) }
      let passed = try client.execute(
        "getfd", arguments: ["fdname": "passed"], within: .seconds(20), passing: null)
      #expect(passed?.outcome == .returned(Array("{}".utf8)))
      let known = try client.execute(
        "closefd", arguments: ["fdname": "passed"], within: .seconds(20))
      #expect(known?.outcome == .returned(Array("{}".utf8)))
    }

    private static func migration(
      in loop: Loop, _ pair: QEMUPair, journal: String? = nil,
      _ change: (inout MigrationOptions) -> Void
    ) throws -> Migration {
      var options = MigrationOptions()
      options.uri = pair.migrationAddress
      options.sourceEnd = .keep
      change(&options)
      let configuration = SessionConfiguration(
        options: options, sourceMonitor: .unix(path: pair.source.monitorPaths[0]),
        targetMonitor: .unix(path: pair.target.monitorPaths[0]))
      return try Migration(in: loop, configuration: configuration, journalPath: journal)
    }
  }
}
