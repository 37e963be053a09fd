import DemoGuest
import Glibc

/// The local disk of one machine of the demonstration: a raw image in its directory.
struct DemoDisk {
  /// The name of its block node on every machine, and of its NBD export.
  static let node = "disk0"
  static let bytes = 32 << 20
  /// What the guest writes: so many sectors from the start, in turn.
  static let load = GuestImage.DiskLoad(sectors: 4096)

  let path: String

  /// Makes the image: full of numbers where the guest starts, else empty.
  init(path: String, isFilled: Bool) throws {
    self.path = path
    let descriptor = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0o600)
    guard descriptor >= 0 else { throw CommandFailure(local: systemError("open \(path)")) }
    defer { close(descriptor) }
    guard ftruncate(descriptor, off_t(Self.bytes)) == 0 else {
      throw CommandFailure(local: systemError("truncate \(path)"))
    }
    guard isFilled else { return }
    var place = 0
    while place < Self.bytes {
      let chunk = Self.numbers(from: place, count: 1 << 20)
      let count = chunk.withUnsafeBytes {
        pwrite(descriptor, $0.baseAddress, $0.count, off_t(place))
      }
      guard count > 0 else { throw CommandFailure(local: systemError("write \(path)")) }
      // Numbers are whole: a short write is written again from the last whole one.
      place += max(count & ~7, 8)
    }
  }

  /// QEMU's arguments for it.
  var arguments: [String] {
    let file = JSONValue.object([("driver", .string("file")), ("filename", .string(path))])
    let node = JSONValue.object([
      ("driver", .string("raw")), ("node-name", .string(Self.node)), ("file", file),
    ])
    return [
      "-blockdev", node.line, "-device", "ide-hd,drive=\(Self.node),bus=ide.0,unit=0",
    ]
  }

  /// How many sectors are not what they must be after these writes; the guest must stand.
  func wrongSectors(after writes: WriteRecord) throws -> Int {
    let descriptor = open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { throw CommandFailure(.targetOwns, systemError("open \(path)")) }
    defer { close(descriptor) }
    var wrong = 0
    var sector = [UInt8](repeating: 0, count: NumberedSector.size)
    for block in 0..<Self.bytes / NumberedSector.size {
      let place = block * NumberedSector.size
      let count = sector.withUnsafeMutableBytes {
        pread(descriptor, $0.baseAddress, $0.count, off_t(place))
      }
      guard count == sector.count else {
        throw CommandFailure(.targetOwns, systemError("read \(path)"))
      }
      let isUntouched = { sector == Self.numbers(from: place, count: NumberedSector.size) }
      if !writes.allows(NumberedSector(bytes: sector), in: UInt32(block), isUntouched) {
        wrong += 1
      }
    }
    return wrong
  }

  /// What is on the disk from a place on before the guest has written: each place has its own number.
  private static func numbers(from place: Int, count: Int) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    bytes.withUnsafeMutableBytes { bytes in
      for offset in stride(from: 0, to: count, by: 8) {
        bytes.storeBytes(of: UInt64(place + offset + 1), toByteOffset: offset, as: UInt64.self)
      }
    }
    return bytes
  }
}

/// What the guest says that its disk has acknowledged.
struct WriteRecord {
  /// How many writes there were.
  private(set) var count: UInt64 = 0
  /// How many the disk has refused.
  private(set) var refused = 0

  private var newest: [UInt32: UInt32] = [:]
  private var last: UInt32 = 0

  /// Takes the next line of the guest.
  mutating func record(_ line: GuestLine) {
    switch line {
    case .written(_, let sequence):
      newest[sequence % DemoDisk.load.sectors] = sequence
      last = sequence
      count += 1
    case .refused(_, let sequence):
      last = sequence
      refused += 1
    case .booted, .tick: break
    }
  }

  /// Whether a block may hold this write, or (nil) what was there before.
  ///
  /// The guest says that one write is acknowledged before it begins the next: one more than it has
  /// said may be there.
  func allows(
    _ sector: NumberedSector?, in block: UInt32, _ isUntouched: () -> Bool
  ) -> Bool {
    guard let sector else { return newest[block] == nil && isUntouched() }
    let expected = NumberedSector(
      disk: 0, sequence: sector.sequence, sectors: DemoDisk.load.sectors)
    guard sector == expected, sector.block == block else { return false }
    return sector.sequence == newest[block] || sector.sequence == last &+ 1
  }
}
