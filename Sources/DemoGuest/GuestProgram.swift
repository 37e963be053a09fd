/// The guest's code: from the reset vector to the loads, in 32-bit protected mode.
///
/// The timer's interrupt prints the ticks and obeys commands, so both go on while a disk is slow.
/// The main loop does the work of the loads once a tick and sleeps in between.
struct GuestProgram {
  /// QEMU maps the last byte of `-bios` below 4 GiB, whatever its size.
  private static let origin: UInt32 = 0xffff_0000
  /// Where a processor begins after reset, from the image's start.
  private static let resetVector = 0xfff0

  /// Flat segments of the table that `emitTables` lays out.
  private enum Selector {
    static let code: UInt16 = 0x08
    static let data: UInt16 = 0x10
  }

  /// The guest's variables and buffers, in low memory.
  private enum Memory {
    static let ticks: UInt32 = 0x1000
    /// The last tick for which the main loop has done its work.
    static let workedTick: UInt32 = 0x1004
    /// Next address that the memory load writes to.
    static let cursor: UInt32 = 0x1008
    /// 1 while the loads run.
    static let loadRuns: UInt32 = 0x100c
    /// 1 when `w` has been received and not yet been done.
    static let writeWanted: UInt32 = 0x1010
    /// 1 when `e` has been received and not yet been done.
    static let faultWanted: UInt32 = 0x1014
    /// Writes that the main loop still has to do for this tick.
    static let writesLeft: UInt32 = 0x1018
    /// The block that is being written.
    static let block: UInt32 = 0x101c
    /// Sequence number of the last write, one for each disk.
    static func sequence(_ disk: UInt8) -> UInt32 { 0x1020 + 4 * UInt32(disk) }
    static let sectorBuffer: UInt32 = 0x2000
    static let stackTop: UInt32 = 0x8000
    static let loadStart: UInt32 = 0x10_0000
    /// One instruction in each page that holds something of the above, far from it.
    static let codeAmongData: [UInt32] = [0x1800, 0x2800, 0x7000]
  }

  private enum Port {
    static let serial: UInt16 = 0x3f8
    static let serialLineStatus: UInt16 = 0x3fd
    static let primaryInterrupts: UInt16 = 0x20
    static let secondaryInterrupts: UInt16 = 0xa0
    static let timerCounter: UInt16 = 0x40
    static let timerControl: UInt16 = 0x43
    static let configurationAddress: UInt16 = 0xcf8
    static let configurationData: UInt16 = 0xcfc
    static let resetControl: UInt16 = 0xcf9
    static let panic: UInt16 = 0x505
    /// Where this guest puts the registers of power management.
    static let powerManagement: UInt16 = 0x600
    static let powerManagementControl: UInt16 = 0x604
    /// Registers of the processor's own interrupt controller, in memory.
    static let localSpuriousVector: UInt32 = 0xfee0_00f0
    static let localExternalInterrupt: UInt32 = 0xfee0_0350
  }

  /// Interrupts begin here in the descriptor table, above the processor's own exceptions.
  private static let firstInterruptVector: UInt8 = 0x20
  private static let timerFrequency: UInt32 = 1_193_182

  private let configuration: GuestImage.Configuration
  private var code: Assembler
  private let resetEntry: Assembler.Label
  private let descriptorTable: Assembler.Label
  private let descriptorTablePointer: Assembler.Label
  private let interruptTable: Assembler.Label
  private let interruptTablePointer: Assembler.Label
  private let timerInterrupt: Assembler.Label
  private let primaryInterrupt: Assembler.Label
  private let secondaryInterrupt: Assembler.Label
  /// The routines that write a sector, one for each disk.
  private let writeBlock: [Assembler.Label]
  private let printByte: Assembler.Label
  private let printNumberAndEnd: Assembler.Label

  init(_ configuration: GuestImage.Configuration) {
    var code = Assembler(origin: Self.origin)
    self.configuration = configuration
    resetEntry = code.label()
    descriptorTable = code.label()
    descriptorTablePointer = code.label()
    interruptTable = code.label()
    interruptTablePointer = code.label()
    timerInterrupt = code.label()
    primaryInterrupt = code.label()
    secondaryInterrupt = code.label()
    writeBlock = (0..<(configuration.disks?.count ?? 0)).map { _ in code.label() }
    printByte = code.label()
    printNumberAndEnd = code.label()
    self.code = code
  }

  mutating func assembled() -> [UInt8] {
    emitTables()
    emitProtectedModeEntry()
    emitVariableSetup()
    emitDeviceSetup()
    code.moveToAL(UInt8(ascii: "B"))
    code.call(printByte)
    code.moveToAL(UInt8(ascii: "\n"))
    code.call(printByte)
    emitMainLoop()
    emitInterruptHandlers()
    emitPrinting()
    code.pad(toSize: Self.resetVector)
    code.jump16(resetEntry)
    code.pad(toSize: GuestImage.size)
    return code.assembled()
  }
}

// MARK: - Start

extension GuestProgram {
  private mutating func emitTables() {
    code.place(descriptorTable)
    code.doubleWord(0)
    code.doubleWord(0)
    // Base 0, limit 4 GiB; marked as accessed, for a processor cannot mark them in ROM.
    code.byte(0xff, 0xff, 0x00, 0x00, 0x00, 0x9b, 0xcf, 0x00)
    code.byte(0xff, 0xff, 0x00, 0x00, 0x00, 0x93, 0xcf, 0x00)
    code.place(descriptorTablePointer)
    code.word(3 * 8 - 1)
    code.address(of: descriptorTable)

    let vectors = Self.firstInterruptVector + 16
    code.place(interruptTable)
    for vector in 0..<vectors {
      guard vector >= Self.firstInterruptVector else {
        // No exception is expected: one ends in a reset, which a test sees.
        code.doubleWord(0)
        code.doubleWord(0)
        continue
      }
      switch vector - Self.firstInterruptVector {
      case 0: code.lowWord(of: timerInterrupt)
      case 1...7: code.lowWord(of: primaryInterrupt)
      default: code.lowWord(of: secondaryInterrupt)
      }
      code.word(Selector.code)
      code.byte(0x00, 0x8e)
      code.word(UInt16(Self.origin >> 16))
    }
    code.place(interruptTablePointer)
    code.word(UInt16(vectors) * 8 - 1)
    code.address(of: interruptTable)
  }

  private mutating func emitProtectedModeEntry() {
    let protectedModeEntry = code.label()
    code.place(resetEntry)
    code.disableInterrupts()
    code.loadGlobalDescriptorTable16(descriptorTablePointer)
    code.enableProtection16()
    code.farJump16(selector: Selector.code, protectedModeEntry)
    code.place(protectedModeEntry)
    code.setDataSegments(selector: Selector.data)
    code.move(.esp, Memory.stackTop)
    code.loadInterruptDescriptorTable(interruptTablePointer)
    code.clearDirection()
  }

  private mutating func emitVariableSetup() {
    // A reset leaves memory as it was.
    for variable in stride(from: Memory.ticks, to: Memory.sequence(4), by: 4) {
      code.store(0, to: variable)
    }
    code.store(Memory.loadStart, to: Memory.cursor)
    code.store(configuration.startsLoadAtBoot ? 1 : 0, to: Memory.loadRuns)
    for address in Memory.codeAmongData {
      code.store(UInt32(Assembler.returnInstruction), to: address)
    }
  }

  private mutating func emitDeviceSetup() {
    // Serial port: no interrupts, 115,200 baud, 8N1, queues on.
    code.output(0x00, port: Port.serial + 1)
    code.output(0x80, port: Port.serial + 3)
    code.output(0x01, port: Port.serial)
    code.output(0x00, port: Port.serial + 1)
    code.output(0x03, port: Port.serial + 3)
    code.output(0x07, port: Port.serial + 2)

    // Interrupt controllers: timer, cascade and both IDE channels open.
    let controllers = [
      (Port.primaryInterrupts, Self.firstInterruptVector, UInt8(0x04), UInt8(0b1111_1010)),
      (Port.secondaryInterrupts, Self.firstInterruptVector + 8, 0x02, 0b0011_1111),
    ]
    for (port, vector, cascade, mask) in controllers {
      code.output(0x11, port: port)
      code.output(vector, port: port + 1)
      code.output(cascade, port: port + 1)
      code.output(0x01, port: port + 1)
      code.output(mask, port: port + 1)
    }

    // Local interrupt controller: on, and the old controllers' line goes through it.
    code.store(0x107 + UInt32(Self.firstInterruptVector), to: Port.localSpuriousVector)
    code.store(0x700, to: Port.localExternalInterrupt)

    // Timer: channel 0, rate generator.
    let divisor = Self.timerFrequency / configuration.ticksPerSecond
    code.output(0x34, port: Port.timerControl)
    code.output(UInt8(truncatingIfNeeded: divisor), port: Port.timerCounter)
    code.output(UInt8(truncatingIfNeeded: divisor >> 8), port: Port.timerCounter)

    // Power management (PCI 00:01.3): place its registers and switch them on.
    code.outputDoubleWord(0x8000_0b40, port: Port.configurationAddress)
    code.outputDoubleWord(UInt32(Port.powerManagement) | 1, port: Port.configurationData)
    code.outputDoubleWord(0x8000_0b80, port: Port.configurationAddress)
    code.outputDoubleWord(1, port: Port.configurationData)
  }
}

// MARK: - Loads

extension GuestProgram {
  private mutating func emitMainLoop() {
    let work = code.label()
    let loop = code.here()
    // Interrupts are off between the look and the halt, or a tick in between would be slept through.
    code.disableInterrupts()
    code.load(.eax, from: Memory.ticks)
    code.compare(.eax, withValueAt: Memory.workedTick)
    code.jump(if: .notEqual, work)
    code.enableInterrupts()
    code.halt()
    code.jump(loop)

    code.place(work)
    code.enableInterrupts()
    code.store(.eax, to: Memory.workedTick)
    if let memory = configuration.memory {
      emitMemoryLoad(memory)
    }
    if let disks = configuration.disks {
      emitDiskLoad(disks)
    }
    code.jump(loop)

    if let disks = configuration.disks {
      for disk in 0..<disks.count {
        code.place(writeBlock[Int(disk)])
        emitWriteBlock(disk: disk)
      }
    }
  }

  private mutating func emitMemoryLoad(_ memory: GuestImage.MemoryLoad) {
    let end = code.label()
    let next = code.label()
    code.compare(valueAt: Memory.loadRuns, 0)
    code.jump(if: .equal, end)
    code.load(.edi, from: Memory.cursor)
    code.move(.ecx, memory.pagesPerTick)
    let page = code.here()
    code.increment(atAddressIn: .edi)
    code.add(.edi, 4096)
    code.compare(.edi, Memory.loadStart + memory.mebibytes << 20)
    code.jump(if: .below, next)
    code.move(.edi, Memory.loadStart)
    code.place(next)
    code.decrement(.ecx)
    code.jump(if: .notZero, page)
    code.store(.edi, to: Memory.cursor)
    code.place(end)
  }

  private mutating func emitDiskLoad(_ disks: GuestImage.DiskLoad) {
    let loadStopped = code.label()
    let noWriteWanted = code.label()
    let writesDone = code.label()
    let noFaultWanted = code.label()

    code.store(0, to: Memory.writesLeft)
    code.compare(valueAt: Memory.loadRuns, 0)
    code.jump(if: .equal, loadStopped)
    code.store(disks.writesPerTick, to: Memory.writesLeft)
    code.place(loadStopped)
    code.compare(valueAt: Memory.writeWanted, 0)
    code.jump(if: .equal, noWriteWanted)
    code.store(0, to: Memory.writeWanted)
    code.increment(at: Memory.writesLeft)
    code.place(noWriteWanted)

    let nextWrite = code.here()
    code.load(.eax, from: Memory.writesLeft)
    code.compare(.eax, 0)
    code.jump(if: .equal, writesDone)
    code.decrement(.eax)
    code.store(.eax, to: Memory.writesLeft)
    for disk in 0..<disks.count {
      code.increment(at: Memory.sequence(disk))
      code.load(.eax, from: Memory.sequence(disk))
      code.move(.edx, 0)
      code.move(.ecx, disks.sectors)
      code.divide(by: .ecx)
      code.store(.edx, to: Memory.block)
      code.load(.ebx, from: Memory.sequence(disk))
      code.call(writeBlock[Int(disk)])
    }
    code.jump(nextWrite)
    code.place(writesDone)

    code.compare(valueAt: Memory.faultWanted, 0)
    code.jump(if: .equal, noFaultWanted)
    code.store(0, to: Memory.faultWanted)
    code.store(NumberedSector.faultyBlock, to: Memory.block)
    code.move(.ebx, NumberedSector.faultySequence)
    code.call(writeBlock[0])
    code.place(noFaultWanted)
  }

  /// Fills the buffer with the sector of the sequence number in `ebx` and of `Memory.block`.
  private mutating func emitSectorFilling(disk: UInt8) {
    code.move(.edi, Memory.sectorBuffer)
    code.move(.ecx, UInt32(NumberedSector.size / 16))
    let unitOfSector = code.here()
    code.move(.eax, NumberedSector.mark(disk: disk))
    code.storeString()
    code.move(.eax, .ebx)
    code.storeString()
    code.load(.eax, from: Memory.block)
    code.storeString()
    code.move(.eax, .ebx)
    code.not(.eax)
    code.storeString()
    code.decrement(.ecx)
    code.jump(if: .notZero, unitOfSector)
  }

  /// Writes the sector with the sequence number in `ebx` to `Memory.block` and prints the outcome.
  private mutating func emitWriteBlock(disk: UInt8) {
    let base: UInt16 = disk < 2 ? 0x1f0 : 0x170
    let unit: UInt8 = 0xe0 | (disk & 1) << 4
    let status = base + 7
    let busy: UInt8 = 0x80
    let dataWanted: UInt8 = 0x08
    let failed: UInt8 = 0x21
    let acceptsData = code.label()
    let complete = code.label()
    let refused = code.label()
    let report = code.label()

    emitSectorFilling(disk: disk)

    // One sector, logical block address, command "write sectors".
    code.load(.eax, from: Memory.block)
    code.shiftRight(.eax, by: 24)
    code.andAL(0x0f)
    code.orAL(unit)
    code.output(port: base + 6)
    code.output(1, port: base + 2)
    for byte in 0..<3 {
      code.load(.eax, from: Memory.block)
      code.shiftRight(.eax, by: UInt8(8 * byte))
      code.output(port: base + 3 + UInt16(byte))
    }
    code.output(0x30, port: status)
    let waitForRequest = code.here()
    code.input(port: status)
    code.testAL(failed)
    code.jump(if: .notZero, refused)
    code.testAL(dataWanted)
    code.jump(if: .notZero, acceptsData)
    code.jump(waitForRequest)

    code.place(acceptsData)
    code.move(.esi, Memory.sectorBuffer)
    code.move(.ecx, UInt32(NumberedSector.size / 2))
    code.outputWords(port: base)
    let waitForEnd = code.here()
    code.disableInterrupts()
    code.input(port: status)
    code.testAL(busy)
    code.jump(if: .zero, complete)
    code.enableInterrupts()
    code.halt()
    code.jump(waitForEnd)

    // Interrupts stay off while the line is printed, or a tick would be printed into it.
    code.place(complete)
    code.testAL(failed)
    code.jump(if: .notZero, refused)
    code.moveToAL(UInt8(ascii: "W"))
    code.jump(report)
    code.place(refused)
    code.disableInterrupts()
    code.moveToAL(UInt8(ascii: "E"))
    code.place(report)
    code.call(printByte)
    code.moveToAL(UInt8(ascii: "0") + disk)
    code.call(printByte)
    code.move(.eax, .ebx)
    code.call(printNumberAndEnd)
    code.enableInterrupts()
    code.return()
  }
}

// MARK: - Interrupts and printing

extension GuestProgram {
  private mutating func emitInterruptHandlers() {
    let endOfInterrupt: UInt8 = 0x20

    code.place(timerInterrupt)
    code.pushAll()
    code.output(endOfInterrupt, port: Port.primaryInterrupts)
    emitDirtyTracking()
    code.increment(at: Memory.ticks)
    code.moveToAL(UInt8(ascii: "T"))
    code.call(printByte)
    code.load(.eax, from: Memory.ticks)
    code.call(printNumberAndEnd)
    emitCommandReading()
    code.popAll()
    code.returnFromInterrupt()

    // The others have done their work by waking the processor.
    code.place(secondaryInterrupt)
    code.push(.eax)
    code.push(.edx)
    code.output(endOfInterrupt, port: Port.secondaryInterrupts)
    code.output(endOfInterrupt, port: Port.primaryInterrupts)
    code.pop(.edx)
    code.pop(.eax)
    code.returnFromInterrupt()

    code.place(primaryInterrupt)
    code.push(.eax)
    code.push(.edx)
    code.output(endOfInterrupt, port: Port.primaryInterrupts)
    code.pop(.edx)
    code.pop(.eax)
    code.returnFromInterrupt()
  }

  /// Works round an error of the emulator before 9.0: after a pass of a migration it does not mark a
  /// page as written to while the page's translation is in use, and the target goes on from an old copy.
  private mutating func emitDirtyTracking() {
    // A page with code in it is marked at every write, so what the guest counts on is never lost.
    for address in Memory.codeAmongData {
      code.move(.eax, address)
      code.call(addressIn: .eax)
    }
    // Without paging this means nothing, but the translations are forgotten: pages of the load on
    // memory are marked again, if not always at once.
    code.toggleWriteProtection()
  }

  /// Obeys one byte from the serial port, if there is one.
  private mutating func emitCommandReading() {
    let end = code.label()
    code.input(port: Port.serialLineStatus)
    code.testAL(0x01)
    code.jump(if: .zero, end)
    code.input(port: Port.serial)
    for command in GuestCommand.allCases {
      let otherwise = code.label()
      code.compareAL(command.rawValue)
      code.jump(if: .notEqual, otherwise)
      emit(command)
      code.jump(end)
      code.place(otherwise)
    }
    code.place(end)
  }

  private mutating func emit(_ command: GuestCommand) {
    switch command {
    case .powerOff: code.outputWord(0x2000, port: Port.powerManagementControl)
    case .reboot:
      code.output(0x02, port: Port.resetControl)
      code.output(0x06, port: Port.resetControl)
    case .panic: code.output(0x01, port: Port.panic)
    case .writeSector: code.store(1, to: Memory.writeWanted)
    case .writeFaultySector: code.store(1, to: Memory.faultWanted)
    case .startLoad: code.store(1, to: Memory.loadRuns)
    case .stopLoad: code.store(0, to: Memory.loadRuns)
    }
  }

  private mutating func emitPrinting() {
    let decimal = code.label()

    // Prints eax as eight hexadecimal digits and ends the line; changes eax, ecx and edx.
    code.place(printNumberAndEnd)
    code.move(.ecx, 8)
    let digit = code.here()
    code.rotateLeft(.eax, by: 4)
    code.push(.eax)
    code.andAL(0x0f)
    code.addToAL(UInt8(ascii: "0"))
    code.compareAL(UInt8(ascii: "9"))
    code.jump(if: .belowOrEqual, decimal)
    code.addToAL(UInt8(ascii: "a") - UInt8(ascii: "9") - 1)
    code.place(decimal)
    code.call(printByte)
    code.pop(.eax)
    code.decrement(.ecx)
    code.jump(if: .notZero, digit)
    code.moveToAL(UInt8(ascii: "\n"))

    // Prints al, waiting until the port takes it; changes eax and edx. The above runs into it.
    code.place(printByte)
    code.push(.eax)
    let wait = code.here()
    code.input(port: Port.serialLineStatus)
    code.testAL(0x20)
    code.jump(if: .zero, wait)
    code.pop(.eax)
    code.output(port: Port.serial)
    code.return()
  }
}
