import DemoGuest
import QEMUHarness
import Testing

@Suite("The demo guest obeys", .serialized)
struct GuestCommands {
  private let directory: TemporaryDirectory

  init() throws {
    directory = try TemporaryDirectory()
  }

  private func start(
    _ version: QEMUVersion, _ change: (inout QEMUProcess.Options) -> Void = { _ in }
  ) throws -> QEMUProcess {
    var options = QEMUProcess.Options()
    options.version = version
    change(&options)
    let process = try QEMUProcess(options, name: "guest", in: directory)
    #expect(process.serial.waitForTicks(20, upTo: .seconds(60)))
    return process
  }

  @Test("power off", arguments: QEMUVersion.allCases)
  func powerOff(version: QEMUVersion) throws {
    let process = try start(version)
    try process.serial.send(.powerOff)
    let event = try process.monitor.waitForEvent("SHUTDOWN")
    #expect(event.data["guest"] == true)
    #expect(event.data["reason"] == "guest-shutdown")
    #expect(process.waitForExit() == .exited(status: 0))
  }

  @Test("reboot", arguments: QEMUVersion.allCases)
  func reboot(version: QEMUVersion) throws {
    let process = try start(version)
    let ticks = process.serial.tickCount
    try process.serial.send(.reboot)
    let event = try process.monitor.waitForEvent("RESET")
    #expect(event.data["reason"] == "guest-reset")
    #expect(process.serial.waitForTicks(ticks + 1000, upTo: .seconds(60)))
    let lines = process.serial.lines
    #expect(lines.count { $0 == .booted } == 2)
    #expect(lines.count { $0 == .tick(1) } == 2)
  }

  @Test("panic", arguments: QEMUVersion.allCases)
  func panic(version: QEMUVersion) throws {
    let process = try start(version) {
      $0.hasPanicDevice = true
      $0.arguments = ["-action", "panic=pause"]
    }
    try process.serial.send(.panic)
    try process.monitor.waitForEvent("GUEST_PANICKED")
    try process.monitor.waitForEvent("STOP")
    #expect(try process.monitor.runState() == "guest-panicked")
  }

  @Test("an I/O error that stops the guest", arguments: QEMUVersion.allCases)
  func errorStops(version: QEMUVersion) throws {
    let disk = try faultyDisk(version, errorAction: "stop")
    let process = try start(version) {
      $0.guest.disks = GuestImage.DiskLoad(sectors: 100)
      $0.disks = [disk]
    }
    try process.serial.send(.writeFaultySector)
    let event = try process.monitor.waitForEvent("BLOCK_IO_ERROR")
    #expect(event.data["action"] == "stop")
    try process.monitor.waitForEvent("STOP")
    #expect(try process.monitor.runState() == "io-error")
  }

  @Test("an I/O error that the guest is told", arguments: QEMUVersion.allCases)
  func errorIsReported(version: QEMUVersion) throws {
    let disk = try faultyDisk(version, errorAction: "report")
    let process = try start(version) {
      $0.guest.disks = GuestImage.DiskLoad(sectors: 100)
      $0.disks = [disk]
    }
    try process.serial.send(.writeFaultySector)
    let refusal = GuestLine.refused(disk: 0, sequence: NumberedSector.faultySequence)
    #expect(process.serial.waitForLine(upTo: .seconds(60)) { $0 == refusal })
    #expect(try process.monitor.runState() == "running")
  }

  private func faultyDisk(_ version: QEMUVersion, errorAction: String) throws -> QEMUProcess.Disk {
    let image = try DiskImage(
      path: directory.file("disk"), format: .raw, sectors: 1 << 16, version: version)
    var disk = image.disk
    disk.hasFaultyBlock = true
    disk.errorAction = errorAction
    return disk
  }

  @Test("start and stop writing, and write one sector", arguments: QEMUVersion.allCases)
  func writesOnDemand(version: QEMUVersion) throws {
    let load = GuestImage.DiskLoad(count: 2, sectors: 100)
    let images = try (0..<2).map {
      try DiskImage(
        path: directory.file("disk\($0)"), format: .raw, sectors: 4096, content: .blockNumbers,
        version: version)
    }
    let process = try start(version) {
      $0.guest.disks = load
      $0.guest.startsLoadAtBoot = false
      $0.disks = images.map(\.disk)
    }
    #expect(!process.serial.lines.contains { if case .written = $0 { true } else { false } })
    try process.serial.send(.writeSector)
    for disk in UInt8(0)..<2 {
      let written = GuestLine.written(disk: disk, sequence: 1)
      #expect(process.serial.waitForLine(upTo: .seconds(60)) { $0 == written })
    }
    try process.serial.send(.startLoad)
    #expect(
      process.serial.waitForLine(upTo: .seconds(60)) { $0 == .written(disk: 1, sequence: 300) })
    #expect(process.quit() == .exited(status: 0))
    let checker = SectorChecker(load: load, lines: process.serial.lines)
    for (number, image) in images.enumerated() {
      #expect(checker.acknowledgedWrites[number] >= 299)
      #expect(try checker.findings(disk: number, image: image) == [])
    }
  }

  @Test("memory is dirtied beyond the first megabyte, while ticking goes on")
  func dirtiesMemory() throws {
    let process = try start(.system72) {
      $0.guest.memory = GuestImage.MemoryLoad(mebibytes: 48, pagesPerTick: 64)
    }
    // 48 MiB are 12,288 pages: touched once all of them are no longer zero.
    #expect(process.serial.waitForTicks(400, upTo: .seconds(60)))
    let file = directory.file("memory")
    for (mebibyte, isTouched) in [(1, true), (48, true), (49, false)] {
      try process.monitor.execute(
        "pmemsave",
        ["val": .integer(Int64(mebibyte) << 20), "size": 4096, "filename": .string(file)])
      let page = try #require(readFile(file))
      #expect(page.contains { $0 != 0 } == isTouched, "at \(mebibyte) MiB")
    }
  }
}
