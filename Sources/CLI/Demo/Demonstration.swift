import DemoGuest
import Glibc

/// A guest that ticks moves between two QEMUs, and tells what it noticed.
final class Demonstration {
  /// The guest's memory, and the part of it that the guest keeps changing, MiB.
  private static let (mebibytes, busyMebibytes) = (64, UInt32(32))
  /// What the guest has beyond that.
  ///
  /// Without KVM a QEMU before 9.0 loses writes of the guest while memory travels, unless the size
  /// is no multiple of 64 pages: only then does it see to it that the next write to a page that was
  /// sent is noticed.
  private static let oddKibibytes = 8
  /// Slow enough to be watched; the last part of the memory goes as fast as it can all the same.
  private static let bytesPerSecond: UInt64 = 32 << 20
  private static let downtimeLimitMilliseconds: UInt32 = 5
  /// So that the copying of a disk can be watched too.
  private static let diskBytesPerSecond: UInt64 = 16 << 20
  private static let ticksPerSecond: UInt32 = 1000
  private static let pagesPerTick: UInt32 = 4
  /// The guest runs for so many ticks before the first move, so that there is something to carry.
  private static let ticksBefore: UInt64 = 2000
  /// And for so many after each move, so that it is seen to run.
  private static let ticksAfter: UInt64 = 500
  /// How long they may take, milliseconds; generous, for a machine may be loaded.
  private static let tickLimit: UInt64 = 60_000

  private let rounds: Int
  private let signals: SignalPipe
  private let outputs = Outputs()
  private let style = Style(of: STDOUT_FILENO)
  private let directory: DemoDirectory
  private let setting: DemoMachine.Setting
  /// nil: the machines reach each other without ssh.
  private let server: DemoServer?
  private let log = TickLog()
  private var longestGapNanoseconds: UInt64 = 0

  init(qemu: String, rounds: Int, hasDisk: Bool, usesSSH: Bool) throws {
    self.rounds = rounds
    signals = try SignalPipe()
    directory = try DemoDirectory()
    server = usesSSH ? try DemoServer(in: directory) : nil
    var configuration = GuestImage.Configuration()
    configuration.ticksPerSecond = Self.ticksPerSecond
    configuration.memory = .init(mebibytes: Self.busyMebibytes, pagesPerTick: Self.pagesPerTick)
    if hasDisk { configuration.disks = DemoDisk.load }
    let image = try directory.write(GuestImage(configuration).bytes, to: "guest.bin")
    setting = DemoMachine.Setting(
      qemu: qemu, directory: directory.path, image: image,
      kibibytes: Self.mebibytes << 10 + Self.oddKibibytes, hasDisk: hasDisk)
  }

  /// Runs it all; the status is that of the first migration that did not complete.
  func run(keep: Bool) throws -> ExitStatus {
    var machine = try DemoMachine(setting, name: "A", number: 0, log: log, signals: signals)
    try introduce(machine)
    try waitForTicks(Self.ticksBefore, from: [machine])
    for number in 1...rounds * 2 {
      let name = machine.name == "A" ? "B" : "A"
      let next = try DemoMachine(setting, name: name, number: number, log: log, signals: signals)
      let status = try move(from: machine, to: next, number: number)
      guard status == .asAsked else { return status }
      machine = next
    }
    var isWhole = conclude()
    if let disk = machine.disk { isWhole = try conclude(disk, of: machine) && isWhole }
    if keep { self.keep(machine) }
    outputs.drain()
    return isWhole ? .asAsked : .targetOwns
  }

  private func introduce(_ machine: DemoMachine) throws {
    var version = ""
    do {
      let client = try MonitorClient(
        machine.monitorAddress, timeoutMilliseconds: 60_000, in: try Loop())
      version = client.version
    } catch let error as LibraryError {
      throw CommandFailure(local: error.text)
    }
    say(
      style.paint("Live migration, there and back.", .bold)
        + " Two QEMU \(version) on this machine, A and B; a guest with")
    say(
      "\(Self.mebibytes) MiB that ticks \(Quantity.grouped(UInt64(Self.ticksPerSecond))) times a "
        + "second and keeps changing \(Self.busyMebibytes) MiB of its memory.")
    if machine.disk != nil {
      say(
        "A and B have a disk of \(DemoDisk.bytes >> 20) MiB each; the guest writes a numbered sector "
          + "after every tick.")
    }
    if let server {
      say(
        "Each is another host for the other one: everything goes by ssh, through an sshd of its own "
          + "on port \(server.port).")
    }
  }

  /// One migration with its progress, its ledger and what the guest noticed.
  private func move(
    from source: DemoMachine, to target: DemoMachine, number: Int
  ) throws -> ExitStatus {
    say("")
    say(style.paint("\(source.name) \(style.arrow) \(target.name)", .bold))
    var plan = MigrationPlan(
      name: "the guest", source: source.monitorAddress, target: target.monitorAddress,
      uri: "unix:\(setting.directory)/migration\(number)")
    if let server {
      plan.target = server.address(of: target.monitorAddress)
      plan.ssh = server.plan
    }
    plan.tuning.bytesPerSecond = Self.bytesPerSecond
    plan.tuning.downtimeLimitMilliseconds = Self.downtimeLimitMilliseconds
    if setting.hasDisk {
      plan.outOfBandMonitor = source.outOfBandAddress
      plan.storage.address = "unix:\(setting.directory)/disk\(number)"
      plan.storage.listenAddress = plan.storage.address
      plan.storage.disks = [
        MirroredDisk(
          device: DemoDisk.node, exportName: DemoDisk.node, targetNode: DemoDisk.node,
          bytesPerSecond: Self.diskBytesPerSecond)
      ]
    }
    let narrator = PersonNarrator(
      style: Style(of: STDERR_FILENO), resultStyle: style, loudness: .normal)
    let driver = try MigrationDriver(
      plan, signals: signals, outputs: outputs, narrator: narrator, watches: [source, target])
    let snapshot = try driver.run(.migrate)
    guard snapshot.isCompleted else { return snapshot.exitStatus }
    try waitForTicks(Self.ticksAfter, from: [source, target])
    if log.record.moves.count == number, let move = log.record.moves.last {
      tell(move, from: source, to: target)
    }
    guard source.hasEnded() else {
      throw CommandFailure(.targetOwns, "\(source.name) did not end after it was told to")
    }
    return .asAsked
  }

  private func tell(_ move: TickRecord.Move, from source: DemoMachine, to target: DemoMachine) {
    longestGapNanoseconds = max(longestGapNanoseconds, move.gapNanoseconds)
    say(
      "\(style.paint(style.tick, .green)) the guest itself: silent for "
        + style.paint(Quantity.span(microseconds: move.gapNanoseconds / 1000), .bold)
        + " between tick \(Quantity.grouped(UInt64(move.lastCount))) on \(source.name) and "
        + "\(Quantity.grouped(UInt64(move.firstCount))) on \(target.name) (usual: "
        + "\(Quantity.span(microseconds: move.usualNanoseconds / 1000)))")
  }

  /// Tells what the ticks say; whether all is as it must be.
  private func conclude() -> Bool {
    let record = log.record
    let ticks = Quantity.grouped(record.tickCount)
    say("")
    let isWhole = record.holes == 0 && record.ticksFromElsewhere == 0
    if isWhole {
      say(
        "\(style.paint(style.tick, .green)) \(ticks) ticks, none lost, none twice, never on two "
          + "machines; the longest silence was "
          + Quantity.span(microseconds: longestGapNanoseconds / 1000))
    } else {
      say(
        "\(style.paint(style.cross, .red)) \(ticks) ticks: \(record.holes) out of order, "
          + "\(record.ticksFromElsewhere) from a machine that the guest had left")
    }
    return isWhole
  }

  /// Compares the disk with what the guest says; whether all is as it must be.
  private func conclude(_ disk: DemoDisk, of machine: DemoMachine) throws -> Bool {
    let wrong: Int
    do {
      let client = try MonitorClient(
        machine.monitorAddress, timeoutMilliseconds: 60_000, in: try Loop())
      // While the guest stands, what it has said and what its disk holds agree.
      _ = try client.execute(MonitorCommand(name: "stop"))
      machine.readArrived()
      wrong = try disk.wrongSectors(after: log.record.writes)
      _ = try client.execute(MonitorCommand(name: "cont"))
    } catch let error as LibraryError {
      throw CommandFailure(.targetOwns, error.text)
    }
    let writes = log.record.writes
    let count = Quantity.grouped(writes.count)
    guard wrong == 0, writes.refused == 0 else {
      say(
        "\(style.paint(style.cross, .red)) \(count) writes acknowledged, \(writes.refused) refused: "
          + "\(wrong) sectors of \(machine.name)'s disk are not what they must be")
      return false
    }
    say(
      "\(style.paint(style.tick, .green)) \(count) writes acknowledged, none missing on "
        + "\(machine.name)'s disk; every other sector as it was")
    return true
  }

  private func keep(_ machine: DemoMachine) {
    machine.release()
    directory.isKept = true
    say("")
    say("The guest still runs on \(machine.name). Look around:")
    say("  switchover qmp \(machine.monitorAddress) query-status")
    say("End it:")
    say("  kill \(machine.pid); rm -r \(directory.path)")
  }

  private func waitForTicks(_ ticks: UInt64, from machines: [DemoMachine]) throws {
    let started = monotonicNanoseconds()
    let count = log.record.tickCount + ticks
    while log.record.tickCount < count {
      guard (monotonicNanoseconds() - started) / 1_000_000 < Self.tickLimit else {
        throw CommandFailure(.ownerUnknown, "the guest does not tick")
      }
      let ready = waitForDescriptors(
        (machines.map(\.descriptor) + [signals.descriptor]).map { ($0, Int16(POLLIN)) },
        timeoutMilliseconds: 1000)
      for (machine, isReady) in zip(machines, ready) where isReady { machine.readArrived() }
      if signals.takeArrived().contains(where: SignalPipe.interruptions.contains) {
        throw CommandFailure(local: "interrupted; both machines are ended")
      }
    }
  }

  private func say(_ text: String) {
    outputs.say([.result(text)])
  }
}
