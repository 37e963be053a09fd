import DemoGuest
import Foundation
import QEMUHarness
import Testing

@Suite("switchover migrate with local disks", .serialized)
struct DiskTests {
  /// A pair whose guest writes numbered sectors to each disk all the time.
  private func pair(_ version: QEMUVersion = .system72, disks: Int = 1) throws -> QEMUPair {
    var options = QEMUPair.Options(version)
    options.disks = [QEMUPair.DiskOptions](repeating: .init(), count: disks)
    options.common.guest.disks = GuestImage.DiskLoad(count: UInt8(disks), sectors: 500)
    return try QEMUPair(options)
  }

  private func storage(_ pair: QEMUPair, extra: String = "") -> [String] {
    pair.mirroredDisks.flatMap { ["--disk", QEMUProcess.nodeName(disk: $0) + extra] }
      + ["--nbd", "unix:" + pair.directory.file("nbd"), "--source-oob"]
      + [pair.source.monitorPaths[1]]
  }

  @Test("moves the disks too, and loses no write", arguments: QEMUVersion.allCases)
  func movesDisks(version: QEMUVersion) throws {
    let pair = try pair(version, disks: 2)
    // Slow enough for the mirrors to be asked how far they are.
    let run = try CommandRun(pair.migration + storage(pair, extra: ",bandwidth=4M") + ["--json"])
    #expect(run.waitForExit() == 0, "\(run.errors)\(run.output)")
    let disks = try run.objects().compactMap { $0["disks"] as? [[String: Any]] }
    #expect(disks.allSatisfy { $0.map { $0["device"] as? String } == ["disk0", "disk1"] })
    let totals = disks.flatMap { $0 }.compactMap { $0["total_bytes"] as? Int }
    #expect(totals.contains { $0 > 0 }, "\(run.output)")
    #expect(pair.source.waitForExit() == .exited(status: 0))
    #expect(pair.ticks.isTicking(.target))
    try pair.ticks.assertNothingLost()
    #expect(pair.target.quit() == .exited(status: 0))
    let checker = SectorChecker(
      load: try #require(pair.source.options.guest.disks), lines: pair.ticks.lines())
    for (disk, image) in try #require(pair.images[.target]).enumerated() {
      #expect(checker.acknowledgedWrites[disk] > 0)
      #expect(try checker.findings(disk: disk, image: image) == [])
    }
  }

  @Test("a disk that the source does not have is told, and the guest stays")
  func unknownDisk() throws {
    let pair = try pair()
    let run = try CommandRun(
      pair.migration + ["--disk", "nothing", "--nbd", "unix:" + pair.directory.file("nbd")])
    #expect(run.waitForExit() == 10, "\(run.errors)\(run.output)")
    #expect(run.errors.contains("nothing"), "\(run.errors)")
    #expect(run.errors.hasSuffix("journal: \(pair.journal)\n"), "\(run.errors)")
    #expect(pair.ticks.isTicking(.source))
  }

  @Test("a check with disks changes nothing")
  func check() throws {
    let pair = try pair()
    let run = try CommandRun(["check"] + pair.arguments + storage(pair))
    #expect(run.waitForExit() == 0, "\(run.errors)\(run.output)")
    #expect(run.output == "✓ nothing stands against this migration\n")
    #expect(try pair.target.monitor.runState() == "inmigrate")
    #expect(pair.ticks.isTicking(.source))
  }
}
