import DemoGuest
import Foundation
import QEMUHarness
import Testing

/// The program is killed at any point of a migration: of its journal, within a command, between two
/// commands or between two events. Recovery then brings the pair to one owner (I6).
@Suite("switchover killed on its way", .serialized)
struct KillTests {
  struct World: CustomTestStringConvertible, Sendable {
    var version: QEMUVersion
    var disks: Int
    var handsOver = false

    var testDescription: String {
      "\(version), \(disks == 0 ? "shared storage" : "\(disks) disk(s)")"
        + (handsOver ? ", with a hand-over" : "")
    }
  }

  static let worlds = QEMUVersion.allCases.flatMap { version in
    [
      World(version: version, disks: 0), World(version: version, disks: 2),
      World(version: version, disks: 1, handsOver: true),
    ]
  }

  /// In every check a few points of each world, in the long run 48.
  private static let pointsOfWorld =
    ProcessInfo.processInfo.environment["SWO_LONG"] == nil ? 4 : 48

  @Test("one guest runs, and none of its writes is lost", arguments: worlds)
  func oneOwner(world: World) throws {
    let directory = try TemporaryDirectory()
    let library = try Self.killPoint(in: directory)
    let total = try Self.countPoints(world, library, directory)
    var owners: [String: Int] = [:]
    for number in 0..<Self.pointsOfWorld {
      let point = 1 + (total - 1) * (2 * number + 1) / (2 * Self.pointsOfWorld)
      let owner = try Self.killAndRecover(world, at: point, library, directory)
      owners[owner, default: 0] += 1
    }
    print("\(world.testDescription): \(Self.pointsOfWorld) of \(total) points, owner \(owners)")
    #expect(owners["source"] ?? 0 > 0 && owners["target"] ?? 0 > 0, "\(owners) of \(total) points")
  }

  // MARK: - One life

  private static func killAndRecover(
    _ world: World, at point: Int, _ library: String, _ directory: TemporaryDirectory
  ) throws -> String {
    let pair = try Self.pair(world)
    defer { pair.close() }
    #expect(pair.ticks.isTicking(.source))
    let run = try CommandRun(
      Self.arguments(world, pair),
      variables: ["LD_PRELOAD": library, "KILL_POINT": String(point)])
    let status = run.waitForExit()
    // A migration in fewer steps than the counted one may get past its end.
    #expect(status == nil || status == 0, "point \(point): \(run.errors)")
    let end = try recover(pair, point)
    let owner = try #require(end["owner"] as? String)
    let side = try #require(Side(rawValue: owner), "point \(point): \(end)")
    #expect(end["guest"] as? String == "running", "point \(point): \(end)")
    #expect(pair.ticks.isTicking(side), "point \(point): \(end)")
    try pair.ticks.assertSilent(side.other)
    try pair.ticks.assertNothingLost()
    if side == .source { try expectNoTrace(pair, "point \(point): \(end)") }
    try expectNoLoss(pair, on: side, "point \(point): \(end)")
    return owner
  }

  /// Recovers by the journal, or by the addresses where the program had written none.
  private static func recover(_ pair: QEMUPair, _ point: Int) throws -> [String: Any] {
    var words = [pair.journal]
    if FileManager.default.contents(atPath: pair.journal)?.isEmpty != false {
      words = ["--source", pair.source.monitorPaths[0], "--target", pair.target.monitorPaths[0]]
    }
    var recovery = try CommandRun(["recover", "--json"] + words)
    if recovery.waitForExit() == 12 {
      // Both stand: whether the hand-over was done is for the cluster to say.
      recovery = try CommandRun(["recover", "--json", "--ownership", "target"] + words)
    }
    let report = "point \(point): \(recovery.output)\(recovery.errors)"
    #expect(recovery.waitForExit() == 0, "\(report)")
    let end = try #require(try recovery.objects().last, "\(report)")
    let again = try CommandRun(["recover", "--json"] + words)
    #expect(again.waitForExit() == 0, "point \(point): \(again.output)\(again.errors)")
    #expect(try again.objects().last?["owner"] as? String == end["owner"] as? String)
    return end
  }

  /// The source can be migrated again, by anybody.
  private static func expectNoTrace(_ pair: QEMUPair, _ text: String) throws {
    let monitor = pair.source.monitor
    #expect(try monitor.execute("query-block-jobs").array?.isEmpty == true, "\(text)")
    for node in try monitor.execute("query-named-block-nodes").array ?? [] {
      #expect(node["node-name"]?.string?.hasPrefix("swo-") == false, "\(text)")
    }
    for capability in try monitor.execute("query-migrate-capabilities").array ?? []
    where ["pause-before-switchover", "events"].contains(capability["capability"]?.string) {
      #expect(capability["state"] == .bool(false), "\(text): \(capability)")
    }
  }

  private static func expectNoLoss(_ pair: QEMUPair, on side: Side, _ text: String) throws {
    guard let load = pair.source.options.guest.disks else { return }
    #expect(pair.process(side).quit() == .exited(status: 0), "\(text)")
    let checker = SectorChecker(load: load, lines: pair.ticks.lines())
    for (disk, image) in try #require(pair.images[side]).enumerated() {
      #expect(checker.acknowledgedWrites[disk] > 0)
      #expect(try checker.findings(disk: disk, image: image) == [], "\(text)")
    }
  }

  // MARK: - Setting up

  private static func pair(_ world: World) throws -> QEMUPair {
    var options = QEMUPair.Options(world.version)
    options.disks = [QEMUPair.DiskOptions](repeating: .init(), count: world.disks)
    if world.disks > 0 {
      options.common.guest.disks = GuestImage.DiskLoad(count: UInt8(world.disks), sectors: 500)
    }
    return try QEMUPair(options)
  }

  private static func arguments(_ world: World, _ pair: QEMUPair) -> [String] {
    var arguments = pair.migration
    if world.handsOver { arguments += ["--hand-over-command", "true"] }
    guard world.disks > 0 else { return arguments }
    arguments += ["--nbd", "unix:" + pair.directory.file("nbd")]
    arguments += ["--source-oob", pair.source.monitorPaths[1]]
    // Slow enough for some of them to be on their way at every point.
    let bandwidth = world.disks > 1 ? ",bandwidth=4M" : ""
    for disk in pair.mirroredDisks {
      arguments += ["--disk", QEMUProcess.nodeName(disk: disk) + bandwidth]
    }
    return arguments
  }

  /// A whole migration, with its points counted.
  private static func countPoints(
    _ world: World, _ library: String, _ directory: TemporaryDirectory
  ) throws -> Int {
    let pair = try Self.pair(world)
    defer { pair.close() }
    let file = directory.file("count")
    let run = try CommandRun(
      Self.arguments(world, pair), variables: ["LD_PRELOAD": library, "KILL_POINT_COUNT": file])
    #expect(run.waitForExit() == 0, "\(run.errors)\(run.output)")
    let count = try #require(Int(try String(contentsOfFile: file, encoding: .utf8)))
    #expect(count > 40)
    return count
  }

  private static func killPoint(in directory: TemporaryDirectory) throws -> String {
    let library = directory.file("kill-point.so")
    let source = URL(filePath: #filePath).deletingLastPathComponent()
      .appending(path: "Programs/kill-point.c").path
    let compiler = try ChildProcess(
      "/usr/bin/cc", ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-o", library, source],
      standardErrorPath: directory.file("cc.txt"))
    guard compiler.waitForExit(upTo: .seconds(120)) == .exited(status: 0) else {
      throw HarnessError("cc: \(compiler.standardError)")
    }
    return library
  }
}
