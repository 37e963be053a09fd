/// A whole virtual machine's software in 64 KiB: firmware for QEMU's `-bios` and machine type `pc`.
///
/// It takes the place of the BIOS, so it runs within milliseconds, needs no disk, and the same
/// command line serves both sides of a migration. It counts timer interrupts and prints every count
/// on the first serial port (`GuestLine` reads it); what else it does is in the configuration, and
/// `GuestCommand` lists the bytes that it obeys when they arrive on the serial port.
public struct GuestImage: Sendable {
  /// What a guest does beside ticking.
  public struct Configuration: Sendable, Equatable {
    /// How often the guest ticks; 19 to 10,000 a second.
    public var ticksPerSecond: UInt32 = 1000
    /// Memory that the guest writes to again and again, or none.
    public var memory: MemoryLoad?
    /// Disks that the guest writes numbered sectors to, or none.
    public var disks: DiskLoad?
    /// Whether the loads start at boot or wait for `GuestCommand.startLoad`.
    public var startsLoadAtBoot = true

    public init() {}
  }

  /// Memory that the guest keeps dirtying.
  public struct MemoryLoad: Sendable, Equatable {
    /// The size of the region, which begins at 1 MiB; 1 to 2,048 MiB and below the guest's RAM.
    public var mebibytes: UInt32
    /// How many pages of 4 KiB are written to after each tick; at least 1.
    public var pagesPerTick: UInt32

    public init(mebibytes: UInt32, pagesPerTick: UInt32) {
      self.mebibytes = mebibytes
      self.pagesPerTick = pagesPerTick
    }
  }

  /// Disks that the guest keeps writing numbered sectors to.
  public struct DiskLoad: Sendable, Equatable {
    /// How many disks there are, 1 to 4: the IDE units primary master and slave, then secondary.
    public var count: UInt8
    /// How many sectors from the disk's start are written in turn; 1 to 65,535.
    public var sectors: UInt32
    /// How many sectors are written to each disk after each tick; at least 1.
    public var writesPerTick: UInt32

    public init(count: UInt8 = 1, sectors: UInt32, writesPerTick: UInt32 = 1) {
      self.count = count
      self.sectors = sectors
      self.writesPerTick = writesPerTick
    }
  }

  /// The size of the image in bytes.
  public static let size = 0x10000

  public let configuration: Configuration
  /// The image, to be written to a file for `-bios`.
  public let bytes: [UInt8]

  /// Builds the image; a configuration outside its documented ranges traps.
  public init(_ configuration: Configuration = Configuration()) {
    precondition((19...10_000).contains(configuration.ticksPerSecond))
    if let memory = configuration.memory {
      precondition((1...2048).contains(memory.mebibytes) && memory.pagesPerTick >= 1)
    }
    if let disks = configuration.disks {
      precondition((1...4).contains(disks.count) && disks.writesPerTick >= 1)
      precondition((1...NumberedSector.faultyBlock).contains(disks.sectors))
    }
    self.configuration = configuration
    var program = GuestProgram(configuration)
    bytes = program.assembled()
  }
}

/// A byte sent to the guest's serial port, which the guest obeys at its next tick.
public enum GuestCommand: UInt8, Sendable, CaseIterable {
  /// `p`: power off through ACPI.
  case powerOff = 0x70
  /// `r`: reset the machine, which starts again at tick 1.
  case reboot = 0x72
  /// `x`: report a panic to a `pvpanic` device.
  case panic = 0x78
  /// `w`: write one numbered sector to every disk.
  case writeSector = 0x77
  /// `e`: write a sector to `NumberedSector.faultyBlock` of disk 0, where a test has put an error.
  case writeFaultySector = 0x65
  /// `g`: start the loads on memory and disks.
  case startLoad = 0x67
  /// `s`: stop the loads; ticking goes on.
  case stopLoad = 0x73
}
