import DemoGuest

/// Two QEMUs of one virtual machine, ready to migrate: the source runs, the target waits.
public final class QEMUPair: Sendable {
  /// How a pair is brought up.
  public struct Options: Sendable {
    /// What both sides have in common: the version, memory, guest, monitors.
    public var common = QEMUProcess.Options()
    /// The target's version, if it is another one.
    public var targetVersion: QEMUVersion?
    /// The value of the target's `-incoming`; `defer` waits for `migrate-incoming`.
    public var incoming = Incoming.deferred
    /// Whether the target is started with `-S`.
    public var targetStartsPaused = true
    /// Whether the source's guest does not run when the pair is ready.
    public var sourceStartsPaused = false
    /// The guest's disks; each side gets an image of its own.
    public var disks: [DiskOptions] = []
    public var sourceArguments: [String] = []
    public var targetArguments: [String] = []

    public init(_ version: QEMUVersion = .system72) {
      common.version = version
    }
  }

  /// A disk of the guest on both sides.
  public struct DiskOptions: Sendable {
    public var sectors = 4096
    public var sourceFormat = QEMUProcess.DiskFormat.raw
    public var targetFormat = QEMUProcess.DiskFormat.raw
    /// The size of the target's image, if it is another one.
    public var targetSectors: Int?
    public var content = DiskImage.InitialContent.blockNumbers
    /// Whether both sides use the source's image, as with shared storage.
    public var isShared = false
    /// Whether the source's disk fails at `NumberedSector.faultyBlock` (raw images only).
    public var hasFaultyBlock = false
    /// What QEMU does on an error: `report` it to the guest, `stop` the guest.
    public var errorAction = "report"

    public init() {}
  }

  /// What the target listens to when it has been started.
  public enum Incoming: Sendable {
    /// `-incoming defer`
    case deferred
    /// `-incoming` with `QEMUPair.migrationAddress`
    case unix
  }

  public let directory: TemporaryDirectory
  public let source: QEMUProcess
  public let target: QEMUProcess
  public let ticks: TickReader
  /// The source's disks, and the target's, which are the same where they are shared.
  public let images: [Side: [DiskImage]]
  /// Where the target listens for the migration: a unix socket in the pair's directory.
  public let migrationEndpoint: Endpoint
  /// The same for `migrate` and `migrate-incoming`.
  public var migrationAddress: String { migrationEndpoint.migrationAddress }

  private let options: Options

  /// Starts both; unless it starts paused, the source's guest ticks when this returns.
  public convenience init(_ options: Options = Options()) throws {
    let directory = try TemporaryDirectory()
    let images = try Self.makeImages(options, side: .source, name: "source", in: directory)
    var sourceOptions = options.common
    sourceOptions.disks = Self.disks(options, images, faulty: true)
    sourceOptions.startsPaused = options.sourceStartsPaused
    sourceOptions.arguments += options.sourceArguments
    let source = try QEMUProcess(sourceOptions, name: "source", in: directory)
    try self.init(
      source: source, sourceImages: images, targetName: "target", options, in: directory)
    guard options.sourceStartsPaused || ticks.isTicking(.source) else {
      throw HarnessError("the guest does not tick on the source: \(source.standardError)")
    }
  }

  /// Starts a target for a source that runs already.
  private init(
    source: QEMUProcess, sourceImages: [DiskImage], targetName: String, _ options: Options,
    in directory: TemporaryDirectory
  ) throws {
    self.options = options
    self.directory = directory
    self.source = source
    migrationEndpoint = .unix(directory.file("\(targetName)-migration.sock"))
    let own = try Self.makeImages(options, side: .target, name: targetName, in: directory)
    let targetImages = zip(options.disks, zip(sourceImages, own)).map { disk, images in
      disk.isShared ? images.0 : images.1
    }
    images = [.source: sourceImages, .target: targetImages]

    var targetOptions = options.common
    targetOptions.version = options.targetVersion ?? options.common.version
    targetOptions.disks = Self.disks(options, targetImages, faulty: false)
    targetOptions.startsPaused = options.targetStartsPaused
    switch options.incoming {
    case .deferred: targetOptions.incoming = "defer"
    case .unix: targetOptions.incoming = migrationEndpoint.migrationAddress
    }
    targetOptions.arguments += options.targetArguments
    target = try QEMUProcess(targetOptions, name: targetName, in: directory)
    ticks = TickReader(source: source, target: target)
  }

  /// A pair of the same source and a new target, for another attempt after a failed one.
  public func withNewTarget(named name: String) throws -> QEMUPair {
    try QEMUPair(
      source: source, sourceImages: images[.source] ?? [], targetName: name, options,
      in: directory)
  }

  /// A pair that goes on from this one's target, after a migration: the way back.
  public func fromTarget(toNewTargetNamed name: String) throws -> QEMUPair {
    try QEMUPair(
      source: target, sourceImages: images[.target] ?? [], targetName: name, options,
      in: directory)
  }

  public func process(_ side: Side) -> QEMUProcess {
    side == .source ? source : target
  }

  private static func makeImages(
    _ options: Options, side: Side, name: String, in directory: TemporaryDirectory
  ) throws -> [DiskImage] {
    try options.disks.enumerated().map { number, disk in
      let isTarget = side == .target
      // The target's own content is zeros: what it has afterwards has been copied.
      var image = try DiskImage(
        path: directory.file("\(name)-disk\(number)"),
        format: isTarget ? disk.targetFormat : disk.sourceFormat,
        sectors: isTarget ? disk.targetSectors ?? disk.sectors : disk.sectors,
        content: isTarget ? .zeros : disk.content,
        version: isTarget ? options.targetVersion ?? options.common.version : options.common.version
      )
      image.initialContent = disk.content
      return image
    }
  }

  private static func disks(
    _ options: Options, _ images: [DiskImage], faulty: Bool
  ) -> [QEMUProcess.Disk] {
    zip(options.disks, images).map { options, image in
      var disk = image.disk
      disk.hasFaultyBlock = faulty && options.hasFaultyBlock
      disk.errorAction = options.errorAction
      return disk
    }
  }

  /// Ends both sides and deletes their files; letting the pair go does the same for whatever no
  /// other pair uses.
  public func close() {
    source.kill()
    target.kill()
    source.close()
    target.close()
    directory.remove()
  }
}
