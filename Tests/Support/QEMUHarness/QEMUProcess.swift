import DemoGuest
import Glibc

/// One running QEMU with the demo guest inside.
///
/// It ends with this value, with the test's process, or when it is told to. Everything that it
/// needs (sockets, firmware image, error output) lies in the directory that it is given.
public final class QEMUProcess: Sendable {
  /// How a QEMU is started.
  public struct Options: Sendable {
    public var version = QEMUVersion.system72
    /// The machine type; this one is known to every version that the tests use.
    public var machine = "pc-i440fx-7.2"
    public var accelerator = "tcg"
    public var memoryMebibytes = 128
    public var guest = GuestImage.Configuration()
    /// `-S`: the guest does not run before `cont`.
    public var startsPaused = false
    /// The value of `-incoming` (`defer`, `unix:…`), or none.
    public var incoming: String?
    /// How many QMP monitors listen for those who are tested; the harness has its own beside them.
    public var monitors = 2
    /// The guest's disks, IDE units in this order.
    public var disks: [Disk] = []
    /// Whether there is a `pvpanic` device for the guest's `panic` command.
    public var hasPanicDevice = false
    /// Further arguments, after all others.
    public var arguments: [String] = []

    public init() {}
  }

  /// A disk of the guest.
  public struct Disk: Sendable {
    public var path: String
    public var format = DiskFormat.raw
    /// Whether writing to `NumberedSector.faultyBlock` fails with an I/O error (raw images only).
    public var hasFaultyBlock = false
    /// What QEMU does on an error: `report` it to the guest, `stop` the guest.
    public var errorAction = "report"

    public init(path: String, format: DiskFormat = .raw) {
      self.path = path
      self.format = format
    }
  }

  /// The format of a disk image.
  public enum DiskFormat: String, Sendable, CaseIterable {
    case raw
    case qcow2
  }

  /// How long a QEMU may take until its monitor answers; generous, for the machine may be loaded.
  public static let startLimit = Duration.seconds(120)

  public let name: String
  public let options: Options
  /// The paths of the QMP monitors that listen for those who are tested.
  public let monitorPaths: [String]
  /// The harness's own monitor.
  public let monitor: HarnessMonitor
  public let serial: GuestSerial
  private let child: ChildProcess
  /// Kept, for QEMU uses the files in it.
  private let directory: TemporaryDirectory

  /// Starts a QEMU and waits until its monitor answers.
  ///
  /// The name keeps several of them in one directory apart.
  public init(_ options: Options = Options(), name: String, in directory: TemporaryDirectory) throws
  {
    self.name = name
    self.options = options
    self.directory = directory
    monitorPaths = (0..<options.monitors).map { directory.file("\(name)-monitor\($0).sock") }
    let image = directory.file("\(name)-guest.bin")
    try writeFile(GuestImage(options.guest).bytes, to: image)
    let harnessSocket = try ListeningSocket(path: directory.file("\(name)-harness.sock"))
    let serialSocket = try ListeningSocket(path: directory.file("\(name)-serial.sock"))
    child = try ChildProcess(
      try options.version.executable,
      Self.arguments(
        options, name: name, image: image, monitorPaths: monitorPaths,
        harnessPath: harnessSocket.path, serialPath: serialSocket.path),
      standardErrorPath: directory.file("\(name)-stderr.txt"))
    do {
      serial = GuestSerial(descriptor: try serialSocket.accept(from: child, upTo: Self.startLimit))
      monitor = try HarnessMonitor(
        descriptor: try harnessSocket.accept(from: child, upTo: Self.startLimit))
    } catch {
      // A QEMU that does not like its arguments says why and ends, at whatever point that is.
      guard let exit = child.waitForExit(upTo: .seconds(10)) else { throw error }
      throw HarnessError("\(name) ended while it started (\(exit)): \(child.standardError)")
    }
    let version = try monitor.execute("query-version")["qemu"]
    guard version?["major"]?.integer == options.version.number.major,
      version?["minor"]?.integer == options.version.number.minor
    else { throw HarnessError("\(try options.version.executable) is not \(options.version)") }
  }

  deinit {
    close()
  }

  public var pid: pid_t { child.pid }

  /// What QEMU has written to its standard error.
  public var standardError: String { child.standardError }

  /// How QEMU ended, or nil while it runs.
  public var exit: ChildProcess.Exit? { child.exit }

  /// Ends QEMU at once (`SIGKILL`), or sends it another signal.
  public func kill(signal: Int32 = SIGKILL) { child.kill(signal: signal) }

  /// How QEMU ended, or nil if it still runs at the limit's end.
  public func waitForExit(upTo limit: Duration = .seconds(60)) -> ChildProcess.Exit? {
    child.waitForExit(upTo: limit)
  }

  /// Ends QEMU through its monitor and returns how it ended, so that an abort at the end is seen.
  public func quit(upTo limit: Duration = .seconds(60)) -> ChildProcess.Exit? {
    _ = try? monitor.send("quit")
    return waitForExit(upTo: limit)
  }

  /// Kills QEMU and waits for its end.
  public func close() {
    kill()
    _ = waitForExit()
  }

  /// The name of the block node of a disk.
  public static func nodeName(disk: Int) -> String { "disk\(disk)" }

  /// The identifier of the device of a disk.
  public static func deviceName(disk: Int) -> String { "ide\(disk)" }

  private static func arguments(
    _ options: Options, name: String, image: String, monitorPaths: [String], harnessPath: String,
    serialPath: String
  ) throws -> [String] {
    var result = [
      "-name", name, "-no-user-config", "-nodefaults", "-display", "none", "-vga", "none",
      "-nic", "none", "-machine", options.machine, "-accel", options.accelerator,
      "-m", "\(options.memoryMebibytes)", "-bios", image,
    ]
    for (number, path) in monitorPaths.enumerated() {
      result += ["-chardev", "socket,id=monitor\(number),path=\(path),server=on,wait=off"]
      result += ["-mon", "chardev=monitor\(number),mode=control"]
    }
    result += ["-chardev", "socket,id=serial,path=\(serialPath)", "-serial", "chardev:serial"]
    for (number, disk) in options.disks.enumerated() {
      result += ["-blockdev", String(decoding: try blockNode(disk, number).text, as: UTF8.self)]
      let place = "bus=ide.\(number / 2),unit=\(number % 2)"
      let errors = "werror=\(disk.errorAction),rerror=\(disk.errorAction)"
      result += [
        "-device",
        "ide-hd,id=\(deviceName(disk: number)),drive=\(nodeName(disk: number)),\(place),\(errors)",
      ]
    }
    if options.hasPanicDevice { result += ["-device", "pvpanic"] }
    if options.startsPaused { result += ["-S"] }
    if let incoming = options.incoming { result += ["-incoming", incoming] }
    result += options.arguments
    // Last, so that its greeting tells that everything before is there.
    result += ["-chardev", "socket,id=harness,path=\(harnessPath)"]
    return result + ["-mon", "chardev=harness,mode=control"]
  }

  private static func blockNode(_ disk: Disk, _ number: Int) -> JSONValue {
    let file: JSONValue = ["driver": "file", "filename": .string(disk.path)]
    let faulty: JSONValue = [
      "driver": "blkdebug", "image": file,
      "inject-error": [
        [
          "event": "none", "iotype": "write", "errno": 5,
          "sector": .integer(Int64(NumberedSector.faultyBlock)),
        ]
      ],
    ]
    return [
      "driver": .string(disk.format.rawValue), "node-name": .string(nodeName(disk: number)),
      "file": disk.hasFaultyBlock ? faulty : file,
    ]
  }
}
