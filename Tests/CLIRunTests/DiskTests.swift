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

  private func storage(_ pair: QEMUPair) -> [String] {
    pair.mirroredDisks.flatMap { ["--disk", QEMUProcess.nodeName(disk: $0)] }
      + ["--nbd", "unix:" + pair.directory.file("nbd"), "--source-oob"]
      + [pair.source.monitorPaths[1]]
  }

  @Test("moves the disks too, and loses no write", arguments: QEMUVersion.allCases)
  func movesDisks(version: QEMUVersion) throws {
    let pair = try pair(version, disks: 2)
    let run = try CommandRun(pair.migration + storage(pair) + ["--json"])
    #expect(run.waitForExit() == 0, "\(run.errors)\(run.output)")
    let end = try #require(try run.objects().last)
    let disks = try #require(end["disks"] as? [[String: Any]])
    #expect(disks.map { $0["device"] as? String } == ["disk0", "disk1"])
    for disk in disks {
      let total = try #require(disk["total_bytes"] as? Int)
      #expect(total > 0 && disk["copied_bytes"] as? Int == total)
    }
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
