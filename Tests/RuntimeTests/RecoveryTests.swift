import Foundation
import MigrationEngine
import MigrationSession
import Platform
import QEMUHarness
import QMP
import Testing

@testable import Runtime

extension RuntimeTests {
  /// Migrations of real QEMUs that are abandoned on their way, and recovered.
  @Suite struct RecoveryTests {
    @Test(
      "wherever a migration is abandoned, one guest runs after its recovery",
      arguments: [6, 9, 11, 13, 15, 17, 18, 19, 20, 21, 22, 23, 24, 26, 28, 60])
    func abandonedAnywhere(turns: Int) throws {
      let pair = try QEMUPair(turns % 2 == 0 ? .init(.backports100) : .init())
      let journal = pair.directory.file("journal")
      try Self.abandon(pair, journal: journal, { $0.handOver = .none }, after: turns)
      let recovery = try Self.recover(pair, journal: journal)
      let conclusion = try #require(recovery.conclusion)
      #expect(conclusion.isSettled, "\(conclusion)")
      #expect(conclusion.guest == .running, "\(conclusion)")
      let owner: QEMUHarness.Side = conclusion.owner == .source ? .source : .target
      #expect(pair.ticks.isTicking(owner), "\(conclusion)")
      try pair.ticks.assertSilent(owner == .source ? .target : .source)
      let record = try RecoveryJournal(path: journal).record
      #expect(record.outcome?.owner == conclusion.owner)
      #expect(record.isSettled)
    }

    @Test(
      "the word on ownership decides between two loaded sides",
      arguments: [RecoverySituation.Cluster.source, .target], [QEMUVersion.system72, .backports100])
    func bothLoaded(cluster: RecoverySituation.Cluster, version: QEMUVersion) throws {
      let pair = try QEMUPair(.init(version))
      let journal = pair.directory.file("journal")
      try Self.abandonAtHandOver(pair, journal: journal)
      // Without a word nothing is touched.
      let first = try #require(try Self.recover(pair, journal: journal).conclusion)
      #expect(first.action == .ask && first.owner == .nobody, "\(first)")
      try pair.ticks.assertSilentOnBothSides()
      let conclusion = try #require(
        try Self.recover(pair, journal: journal) { $0.options.cluster = cluster }.conclusion)
      #expect(conclusion.owner == (cluster == .source ? .source : .target), "\(conclusion)")
      #expect(pair.ticks.isTicking(cluster == .source ? .source : .target))
      try pair.ticks.assertSilent(cluster == .source ? .target : .source)
      if cluster == .source { #expect(pair.target.waitForExit() != nil) }
    }

    @Test func aKilledSourceIsProvenDeadByItsProcess() throws {
      let pair = try QEMUPair()
      let journal = pair.directory.file("journal")
      try Self.abandonAtHandOver(pair, journal: journal)
      pair.source.close()
      let conclusion = try #require(
        try Self.recover(pair, journal: journal) { $0.options.cluster = .target }.conclusion)
      #expect(conclusion.owner == .target && conclusion.action == .resumeTarget, "\(conclusion)")
      #expect(conclusion.findings.contains { $0.contains("process has ended") })
      #expect(pair.ticks.isTicking(.target))
    }

    /// By number, start time, boot and pid namespace: what differs in one of them proves nothing.
    @Test func onlyTheVeryProcessOfTheJournalIsProvenDead() throws {
      let directory = try TestDirectory()
      let child = try QEMUHarness.ChildProcess(
        "/bin/sleep", ["600"], standardErrorPath: "/dev/null")
      let startTime = try Self.startTime(of: child.pid)
      func isProvenDead(_ start: UInt64, machine: String? = MachineIdentity.current) throws -> Bool
      {
        var qemu = JournalRecord.QEMU(monitor: "unix:/none.qmp")
        qemu.process = PeerProcess(pid: child.pid, startTime: start)
        let record = JournalRecord(
          name: "", source: qemu, target: JournalRecord.QEMU(monitor: "unix:/none.qmp"),
          handOver: .none, sourceEnd: .keep, runState: "running", machine: machine)
        let path = directory.file(UUID().uuidString)
        try JournalFile(path: path, create: true).replace(with: record.encoded)
        let journal = try RecoveryJournal(path: path)
        #expect(!journal.processHasEnded(.target))
        return journal.processHasEnded(.source)
      }
      #expect(try !isProvenDead(startTime))
      // The number is another process's now: whether the first has ended is not looked at further.
      #expect(try !isProvenDead(startTime - 1))
      #expect(try !isProvenDead(startTime + 1))
      child.kill(signal: SIGKILL)
      #expect(child.waitForExit(upTo: .seconds(60)) != nil)
      #expect(try isProvenDead(startTime))
      // The same number on another machine, after another boot, or in another container.
      let here = try #require(MachineIdentity.current)
      for other in [nil, "", here + "1", "another-boot/" + here] {
        #expect(try !isProvenDead(startTime, machine: other))
      }
    }

    private static func startTime(of pid: pid_t) throws -> UInt64 {
      let line = try String(contentsOfFile: "/proc/\(pid)/stat", encoding: .utf8)
      let fields = line.split(separator: ")").last?.split(separator: " ") ?? []
      return try #require(fields.count > 19 ? UInt64(fields[19]) : nil)
    }

    @Test func aKilledTargetGivesTheGuestBackWhereItNeverRan() throws {
      let pair = try QEMUPair()
      let journal = pair.directory.file("journal")
      try Self.abandonAtHandOver(pair, journal: journal)
      pair.target.close()
      let first = try #require(
        try Self.recover(pair, journal: journal) { $0.options.cluster = .source }.conclusion)
      #expect(first.words == [.targetNeverRan], "\(first)")
      let conclusion = try #require(
        try Self.recover(pair, journal: journal) {
          $0.options.cluster = .source
          $0.options.targetNeverRan = true
        }.conclusion)
      #expect(conclusion.owner == .source && conclusion.action == .resumeSource, "\(conclusion)")
      #expect(pair.ticks.isTicking(.source))
    }

    @Test func withoutAJournalTwoAddressesAndTheTruthAreEnough() throws {
      let pair = try QEMUPair()
      try Self.abandonAtHandOver(pair, journal: pair.directory.file("journal"))
      let recovery = try Self.recover(pair, journal: nil) {
        $0.options.cluster = RecoverySituation.Cluster.none
        $0.options.guestRan = true
      }
      #expect(recovery.conclusion?.owner == .target)
      #expect(pair.ticks.isTicking(.target))
      try pair.ticks.assertSilent(.source)
    }

    @Test func aLiveMigrationIsNotRecovered() throws {
      let pair = try QEMUPair()
      let journal = pair.directory.file("journal")
      let loop = try Loop()
      let migration = try Self.migration(in: loop, pair, journal: journal) {
        $0.handOver = .beforeResume
      }
      try migration.request(.start)
      #expect(try loop.wait { migration.isHandOverWanted })
      #expect(throws: RecoveryJournalError.file(.held)) { try RecoveryJournal(path: journal) }
      migration.close()
      _ = try RecoveryJournal(path: journal)
    }

    /// What recovery rests on: once a monitor has answered the negotiation, nothing that another client
    /// sent before is still carried out.
    @Test("a negotiation proves that no old command can arrive", arguments: QEMUVersion.allCases)
    func theNegotiationIsABarrier(version: QEMUVersion) throws {
      var options = QEMUPair.Options(version)
      options.sourceStartsPaused = true
      let pair = try QEMUPair(options)
      var ran = 0
      for round in 0..<60 {
        _ = try pair.source.monitor.execute("stop")
        let path = pair.source.monitorPaths[0]
        let old = try RawClient(path)
        old.send(#"{"execute":"qmp_capabilities"}"# + "\n")
        // The last client dies within its `cont`, right behind it, or a little later.
        let grant = Array((#"{"execute":"cont"}"# + "\n").utf8)
        old.send(grant.prefix(round % 3 == 0 ? grant.count - 2 : grant.count))
        let new = try RawClient(path)
        if round % 5 == 0 { usleep(UInt32(round * 400)) }
        old.close()
        new.send(#"{"execute":"qmp_capabilities"}"# + "\n")
        let before = try new.runState()
        // Whatever was on its way has had its time.
        for _ in 0..<4 { #expect(try new.runState() == before, "round \(round)") }
        usleep(2_000)
        #expect(try new.runState() == before, "round \(round)")
        if before == "running" { ran += 1 }
        if round % 3 == 0 { #expect(before != "running", "a command cut short was carried out") }
        new.close()
      }
      #expect(ran > 0, "the race was never met")
    }

    // MARK: - Helpers

    private static func migration(
      in loop: Loop, _ pair: QEMUPair, journal: String,
      _ change: (inout MigrationOptions) -> Void
    ) throws -> Migration {
      var options = MigrationOptions()
      options.uri = pair.migrationAddress
      options.sourceEnd = .keep
      options.isJournaled = true
      change(&options)
      let configuration = SessionConfiguration(
        options: options, sourceMonitor: .unix(path: pair.source.monitorPaths[0]),
        targetMonitor: .unix(path: pair.target.monitorPaths[0]))
      return try Migration(in: loop, configuration: configuration, journalPath: journal)
    }

    /// Lets a migration go on for so many turns of its loop, but at least until its journal is written.
    private static func abandon(
      _ pair: QEMUPair, journal: String, _ change: (inout MigrationOptions) -> Void,
      after turns: Int
    ) throws {
      let loop = try Loop()
      let migration = try Self.migration(in: loop, pair, journal: journal, change)
      try migration.request(.start)
      var left = turns
      while !migration.isFinished, left > 0 || migration.phase.rawValue < 3 {
        _ = try loop.run(forMilliseconds: 0) { false }
        if try loop.dispatch(timeoutMilliseconds: 1_000) > 0 {
          while try loop.nextEvent() != nil {}
        }
        left -= 1
      }
      migration.close()
    }

    private static func abandonAtHandOver(_ pair: QEMUPair, journal: String) throws {
      let loop = try Loop()
      let migration = try Self.migration(in: loop, pair, journal: journal) {
        $0.handOver = .beforeResume
      }
      try migration.request(.start)
      #expect(try loop.wait { migration.isHandOverWanted || migration.isFinished })
      try #require(migration.isHandOverWanted)
      migration.close()
      try pair.source.monitor.waitForRunState("postmigrate")
      try pair.target.monitor.waitForRunState("paused")
    }

    private static func recover(
      _ pair: QEMUPair, journal: String?, _ change: (inout RecoveryConfiguration) -> Void = { _ in }
    ) throws -> Recovery {
      var configuration = RecoveryConfiguration()
      configuration.sourceMonitor = .unix(path: pair.source.monitorPaths[0])
      configuration.targetMonitor = .unix(path: pair.target.monitorPaths[0])
      change(&configuration)
      let loop = try Loop()
      let content = try journal.map { try RecoveryJournal(path: $0) }
      let recovery = try Recovery(in: loop, configuration: configuration, journal: content)
      try recovery.request(.start)
      #expect(try loop.wait { recovery.isFinished })
      recovery.close()
      return recovery
    }
  }
}

/// A QMP client without manners.
private final class RawClient {
  private var number: Int32
  private var received: [UInt8] = []

  init(_ path: String) throws {
    number = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue), 0)
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    withUnsafeMutableBytes(of: &address.sun_path) { raw in
      for (index, byte) in path.utf8.enumerated() { raw[index] = byte }
    }
    let result = withUnsafePointer(to: &address) { pointer in
      pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        connect(number, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    try #require(result == 0)
  }

  deinit { close() }

  func send(_ text: String) { send(Array(text.utf8)[...]) }

  func send(_ bytes: ArraySlice<UInt8>) {
    _ = bytes.withUnsafeBytes {
      Foundation.send(number, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
    }
  }

  func close() {
    if number >= 0 { _ = Foundation.close(number) }
    number = -1
  }

  func runState() throws -> String {
    send(#"{"execute":"query-status","id":"state"}"# + "\n")
    while true {
      while let end = received.firstIndex(of: 10) {
        let line = Array(received[..<end])
        received.removeFirst(end + 1)
        let value = try line.withUnsafeBytes { try JSONText.decode($0) }
        if value["id"]?.string == "state" {
          return try #require(value["return"]?["status"]?.string)
        }
      }
      var buffer = [UInt8](repeating: 0, count: 4096)
      let count = recv(number, &buffer, buffer.count, 0)
      try #require(count > 0)
      received += buffer[..<count]
    }
  }
}
