import DemoGuest
import Glibc

/// Everything that the guest has written, whichever machine it was on.
final class TickLog {
  var record = TickRecord()
}

/// One QEMU of the demonstration, with the demo guest or waiting for it.
final class DemoMachine: DescriptorWatch {
  /// What every machine of one demonstration has in common.
  struct Setting {
    /// The program, found as a shell finds it.
    var qemu: String
    /// The directory that everything lies in.
    var directory: String
    /// The guest's image.
    var image: String
    /// The guest's memory.
    var kibibytes: Int
    /// Whether every machine has a disk of its own.
    var hasDisk = false
  }

  /// How long a QEMU may take to come up, milliseconds; generous, for a machine may be loaded.
  private static let startLimit: UInt64 = 60_000
  /// How long it may take to end by itself before it is killed, milliseconds.
  private static let endLimit: UInt64 = 5_000

  /// "A" or "B", which tells the two sides apart.
  let name: String
  /// The monitor, as an address of the library.
  let monitorAddress: String
  /// A second monitor.
  let outOfBandAddress: String
  let disk: DemoDisk?
  let pid: pid_t
  /// The guest's serial port; negative once it is closed.
  private(set) var descriptor: Int32
  /// The place among the machines that the guest comes to; 0 is where it starts.
  private let number: Int
  private let log: TickLog
  private let child: ChildProgram
  private let errorPath: String
  private var isReleased = false

  /// Starts a QEMU and waits until it listens; every one but the first waits for a migration.
  init(
    _ setting: Setting, name: String, number: Int, log: TickLog, signals: SignalPipe
  ) throws {
    self.name = name
    self.number = number
    self.log = log
    let stem = "\(setting.directory)/\(name.lowercased())\(number)"
    monitorAddress = "unix:\(stem).qmp"
    outOfBandAddress = "unix:\(stem).oob"
    errorPath = "\(stem).log"
    disk = setting.hasDisk ? try DemoDisk(path: "\(stem).disk", isFilled: number == 0) : nil
    let listener = try Self.listen("\(stem).serial")
    defer { close(listener) }
    child = try ChildProgram(
      [setting.qemu] + Self.arguments(setting, name: name, stem: stem, waits: number > 0)
        + (disk?.arguments ?? []),
      output: .null, error: .file(errorPath))
    pid = child.pid
    descriptor = -1
    descriptor = try accept(listener, signals)
  }

  deinit {
    if !isReleased { end() }
  }

  /// Lets QEMU run on when this value goes.
  func release() {
    isReleased = true
  }

  /// Ends QEMU, waits for its end and reaps it.
  func end() {
    closeSerial()
    child.send(SIGTERM)
    if !hasEnded(within: Self.endLimit) {
      child.send(SIGKILL)
      _ = hasEnded(within: .max)
    }
  }

  /// Waits for QEMU's own end.
  func hasEnded(within milliseconds: UInt64 = endLimit) -> Bool {
    let started = monotonicNanoseconds()
    while !child.hasEnded() {
      guard (monotonicNanoseconds() - started) / 1_000_000 < milliseconds else { return false }
      // The child's end interrupts this; the interval is for an end just before it.
      _ = waitForDescriptors([], timeoutMilliseconds: 50)
    }
    return true
  }

  /// Reads what the guest has written, and notes when.
  func readArrived() {
    let now = monotonicNanoseconds()
    var bytes = [UInt8](repeating: 0, count: 1 << 12)
    while descriptor >= 0 {
      let count = bytes.withUnsafeMutableBytes {
        recv(descriptor, $0.baseAddress, $0.count, Int32(MSG_DONTWAIT))
      }
      if count < 0, errno == EINTR { continue }
      if count < 0, errno == EAGAIN { return }
      guard count > 0 else { return closeSerial() }
      log.record.record(bytes.prefix(count), from: number, at: now)
    }
  }

  private func closeSerial() {
    if descriptor >= 0 { close(descriptor) }
    descriptor = -1
  }

  private static func arguments(
    _ setting: Setting, name: String, stem: String, waits: Bool
  ) -> [String] {
    let arguments = [
      "-name", "demo-\(name.lowercased())", "-no-user-config", "-nodefaults", "-display", "none",
      "-vga", "none", "-nic", "none", "-machine", "pc", "-accel", "tcg",
      "-m", "\(setting.kibibytes)k", "-bios", setting.image,
      // The monitor comes first: when QEMU has connected to the serial socket, it listens.
      "-chardev", "socket,id=qmp,path=\(stem).qmp,server=on,wait=off",
      "-mon", "chardev=qmp,mode=control",
      "-chardev", "socket,id=oob,path=\(stem).oob,server=on,wait=off",
      "-mon", "chardev=oob,mode=control",
      "-chardev", "socket,id=serial,path=\(stem).serial", "-serial", "chardev:serial",
    ]
    return waits ? arguments + ["-S", "-incoming", "defer"] : arguments
  }

  /// Waits for QEMU's connection to the serial socket, so that no tick is lost.
  private func accept(_ listener: Int32, _ signals: SignalPipe) throws -> Int32 {
    let started = monotonicNanoseconds()
    while (monotonicNanoseconds() - started) / 1_000_000 < Self.startLimit {
      let ready = waitForDescriptors(
        [(listener, Int16(POLLIN)), (signals.descriptor, Int16(POLLIN))],
        timeoutMilliseconds: 1000)
      if ready[0] {
        let accepted = Glibc.accept(listener, nil, nil)
        guard accepted >= 0 else { throw CommandFailure(local: systemError("accept")) }
        _ = fcntl(accepted, F_SETFD, FD_CLOEXEC)
        return accepted
      }
      if signals.takeArrived().contains(where: SignalPipe.interruptions.contains) {
        throw CommandFailure(local: "interrupted")
      }
      if child.hasEnded() { break }
    }
    throw CommandFailure(local: "QEMU did not start: \(errorText)")
  }

  /// The last line that QEMU has written to its standard error.
  private var errorText: String {
    let descriptor = open(errorPath, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return "it says nothing" }
    defer { close(descriptor) }
    var bytes = [UInt8](repeating: 0, count: 1 << 12)
    let count = bytes.withUnsafeMutableBytes { read(descriptor, $0.baseAddress, $0.count) }
    let text = String(decoding: bytes.prefix(max(count, 0)), as: UTF8.self)
    return text.split(separator: "\n").last.map(String.init) ?? "it says nothing"
  }

  private static func listen(_ path: String) throws -> Int32 {
    var address = sockaddr_un()
    address.sun_family = sa_family_t(AF_UNIX)
    let bytes = Array(path.utf8)
    guard bytes.count < MemoryLayout.size(ofValue: address.sun_path) else {
      throw CommandFailure(local: "the path of a socket is too long: \(path)")
    }
    withUnsafeMutableBytes(of: &address.sun_path) { $0.copyBytes(from: bytes) }
    let descriptor = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
    let bound = withUnsafePointer(to: &address) {
      $0.withMemoryRebound(to: sockaddr.self, capacity: 1) {
        bind(descriptor, $0, socklen_t(MemoryLayout<sockaddr_un>.size))
      }
    }
    guard descriptor >= 0, bound == 0, Glibc.listen(descriptor, 1) == 0 else {
      let problem = systemError("listen on \(path)")
      if descriptor >= 0 { close(descriptor) }
      throw CommandFailure(local: problem)
    }
    return descriptor
  }
}
