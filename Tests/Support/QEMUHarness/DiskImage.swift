import DemoGuest
import Glibc

/// A disk image of a test, raw or qcow2.
public struct DiskImage: Sendable {
  /// What is in a sector before the guest has written to it.
  public enum InitialContent: Sendable {
    /// Zeros; a raw image has holes there.
    case zeros
    /// Every sector names its own block, so that one that was not copied is noticed.
    case blockNumbers
  }

  public let path: String
  public let format: QEMUProcess.DiskFormat
  public let sectors: Int
  /// What every sector that the guest has not written to must hold.
  public var initialContent: InitialContent
  /// Whose tools handle the image.
  private let version: QEMUVersion

  /// Makes an image.
  public init(
    path: String, format: QEMUProcess.DiskFormat, sectors: Int, content: InitialContent = .zeros,
    version: QEMUVersion
  ) throws {
    (self.path, self.format, self.sectors) = (path, format, sectors)
    (initialContent, self.version) = (content, version)
    try writeFile([], to: path)
    if format == .raw {
      guard truncate(path, sectors * NumberedSector.size) == 0 else {
        throw HarnessError.system("truncate \(path)", code: errno)
      }
      guard case .blockNumbers = content else { return }
      try writeFile(Self.numberedBlocks(sectors), to: path)
    } else if case .zeros = content {
      try runTool(["create", "-q", "-f", "qcow2", path, "\(sectors * NumberedSector.size)"])
    } else {
      let raw = path + ".raw"
      defer { unlink(raw) }
      try writeFile(Self.numberedBlocks(sectors), to: raw)
      try runTool(["convert", "-q", "-f", "raw", "-O", "qcow2", raw, path])
    }
  }

  /// The image as a disk of a QEMU.
  public var disk: QEMUProcess.Disk {
    QEMUProcess.Disk(path: path, format: format)
  }

  /// The disk's content; the QEMU that uses it must have ended, or its guest stand.
  public func content() throws -> [UInt8] {
    guard format == .qcow2 else { return try Self.read(path) }
    let raw = path + ".content"
    defer { unlink(raw) }
    try runTool(["convert", "-q", "-U", "-f", "qcow2", "-O", "raw", path, raw])
    return try Self.read(raw)
  }

  /// Overwrites sectors; the image must be raw and not in use.
  public func overwrite(block: UInt32, with bytes: [UInt8]) throws {
    guard format == .raw else { throw HarnessError("\(path) is not raw") }
    let descriptor = open(path, O_WRONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw HarnessError.system("open \(path)", code: errno) }
    defer { close(descriptor) }
    let offset = Int(block) * NumberedSector.size
    guard pwrite(descriptor, bytes, bytes.count, offset) == bytes.count else {
      throw HarnessError.system("write \(path)", code: errno)
    }
  }

  /// What a block held before the guest has written to it.
  public func initialSector(block: Int) -> [UInt8] {
    switch initialContent {
    case .zeros: [UInt8](repeating: 0, count: NumberedSector.size)
    case .blockNumbers: Self.numberedBlock(block)
    }
  }

  private static func read(_ path: String) throws -> [UInt8] {
    guard let bytes = readFile(path) else {
      throw HarnessError.system("read \(path)", code: errno)
    }
    return bytes
  }

  private static func numberedBlock(_ block: Int) -> [UInt8] {
    let number = (0..<8).map { UInt8(truncatingIfNeeded: block >> (8 * $0)) }
    return number + [UInt8](repeating: 0xb5, count: NumberedSector.size - 8)
  }

  private static func numberedBlocks(_ count: Int) -> [UInt8] {
    var bytes = [UInt8](repeating: 0xb5, count: count * NumberedSector.size)
    bytes.withUnsafeMutableBytes { bytes in
      for block in 0..<count {
        bytes.storeBytes(
          of: UInt64(block).littleEndian, toByteOffset: block * NumberedSector.size,
          as: UInt64.self)
      }
    }
    return bytes
  }

  private func runTool(_ arguments: [String]) throws {
    let errors = path + ".stderr"
    defer { unlink(errors) }
    let tool = try ChildProcess(
      try version.imageTool, arguments, standardErrorPath: errors)
    guard tool.waitForExit(upTo: .seconds(120)) == .exited(status: 0) else {
      throw HarnessError("qemu-img \(arguments.joined(separator: " ")): \(tool.standardError)")
    }
  }
}
