/// A builder of x86 machine code with labels, just large enough for the guest of this module.
///
/// Every method appends one instruction, named after its mnemonic; operands are written as in
/// Intel's manuals, destination first. The code is 32-bit unless a method says otherwise.
struct Assembler {
  enum Register: UInt8 {
    case eax = 0
    case ecx, edx, ebx, esp, ebp, esi, edi
  }

  /// The conditions of a conditional jump, by their encoding.
  enum Condition: UInt8 {
    case below = 0x2
    case equal = 0x4
    case notEqual = 0x5
    case belowOrEqual = 0x6
    /// The same test as `equal`, named for its use after `test`.
    static let zero = Condition.equal
    /// The same test as `notEqual`, named for its use after `test`.
    static let notZero = Condition.notEqual
  }

  /// A place in the code that other code refers to, before or after it is placed.
  struct Label {
    fileprivate let index: Int
  }

  private enum Fixup {
    case relative16
    case relative32
    case absolute16
    case absolute32
  }

  /// The address at which the first byte will be executed.
  let origin: UInt32
  private(set) var bytes: [UInt8] = []
  private var placements: [Int?] = []
  private var fixups: [(offset: Int, kind: Fixup, label: Int)] = []

  init(origin: UInt32) {
    self.origin = origin
  }

  /// The finished code with every reference filled in.
  ///
  /// A label that was used and never placed is a mistake of this module and traps.
  func assembled() -> [UInt8] {
    var result = bytes
    for fixup in fixups {
      guard let placement = placements[fixup.label] else {
        preconditionFailure("a label is used and never placed")
      }
      let address = origin &+ UInt32(placement)
      switch fixup.kind {
      case .absolute16:
        store(UInt32(address & 0xffff), width: 2, at: fixup.offset, in: &result)
      case .absolute32:
        store(address, width: 4, at: fixup.offset, in: &result)
      case .relative16:
        let next = origin &+ UInt32(fixup.offset + 2)
        store((address &- next) & 0xffff, width: 2, at: fixup.offset, in: &result)
      case .relative32:
        let next = origin &+ UInt32(fixup.offset + 4)
        store(address &- next, width: 4, at: fixup.offset, in: &result)
      }
    }
    return result
  }

  private func store(_ value: UInt32, width: Int, at offset: Int, in code: inout [UInt8]) {
    for byte in 0..<width {
      code[offset + byte] = UInt8(truncatingIfNeeded: value >> (8 * UInt32(byte)))
    }
  }
}

// MARK: - Labels and data

extension Assembler {
  /// Makes a label to be placed later.
  mutating func label() -> Label {
    placements.append(nil)
    return Label(index: placements.count - 1)
  }

  /// Places a label at the next byte.
  mutating func place(_ label: Label) {
    placements[label.index] = bytes.count
  }

  /// Makes a label and places it at the next byte.
  mutating func here() -> Label {
    let result = label()
    place(result)
    return result
  }

  mutating func byte(_ values: UInt8...) {
    bytes += values
  }

  mutating func word(_ value: UInt16) {
    bytes.append(UInt8(truncatingIfNeeded: value))
    bytes.append(UInt8(truncatingIfNeeded: value >> 8))
  }

  mutating func doubleWord(_ value: UInt32) {
    word(UInt16(truncatingIfNeeded: value))
    word(UInt16(truncatingIfNeeded: value >> 16))
  }

  /// The lower half of a label's address.
  mutating func lowWord(of label: Label) {
    fixups.append((bytes.count, .absolute16, label.index))
    word(0)
  }

  /// A label's whole address.
  mutating func address(of label: Label) {
    fixups.append((bytes.count, .absolute32, label.index))
    doubleWord(0)
  }

  private mutating func relative(to label: Label) {
    fixups.append((bytes.count, .relative32, label.index))
    doubleWord(0)
  }

  /// Appends zero bytes up to a given size of the whole code.
  mutating func pad(toSize size: Int) {
    precondition(bytes.count <= size, "the code is larger than its place")
    bytes += [UInt8](repeating: 0, count: size - bytes.count)
  }
}

// MARK: - Reset code (16-bit)

extension Assembler {
  /// `jmp label`, in 16-bit code.
  mutating func jump16(_ label: Label) {
    byte(0xe9)
    fixups.append((bytes.count, .relative16, label.index))
    word(0)
  }

  /// `o32 lgdt [cs:label]`, in 16-bit code.
  mutating func loadGlobalDescriptorTable16(_ label: Label) {
    byte(0x66, 0x2e, 0x0f, 0x01, 0x16)
    lowWord(of: label)
  }

  /// Sets the protection bit in `cr0`, in 16-bit code.
  mutating func enableProtection16() {
    byte(0x0f, 0x20, 0xc0)  // mov eax, cr0
    byte(0x0c, 0x01)  // or al, 1
    byte(0x0f, 0x22, 0xc0)  // mov cr0, eax
  }

  /// `jmp selector:label` with a 32-bit offset, in 16-bit code.
  mutating func farJump16(selector: UInt16, _ label: Label) {
    byte(0x66, 0xea)
    address(of: label)
    word(selector)
  }
}

// MARK: - Moves and arithmetic

extension Assembler {
  /// Switches the write protection of `cr0` on or off; `eax` is changed.
  mutating func toggleWriteProtection() {
    byte(0x0f, 0x20, 0xc0)  // mov eax, cr0
    byte(0x35)  // xor eax, 1 << 16
    doubleWord(1 << 16)
    byte(0x0f, 0x22, 0xc0)  // mov cr0, eax
  }

  mutating func move(_ register: Register, _ value: UInt32) {
    byte(0xb8 + register.rawValue)
    doubleWord(value)
  }

  mutating func move(_ destination: Register, _ source: Register) {
    byte(0x89, 0xc0 | source.rawValue << 3 | destination.rawValue)
  }

  mutating func load(_ register: Register, from address: UInt32) {
    byte(0x8b, 0x05 | register.rawValue << 3)
    doubleWord(address)
  }

  mutating func store(_ register: Register, to address: UInt32) {
    byte(0x89, 0x05 | register.rawValue << 3)
    doubleWord(address)
  }

  mutating func store(_ value: UInt32, to address: UInt32) {
    byte(0xc7, 0x05)
    doubleWord(address)
    doubleWord(value)
  }

  mutating func moveToAL(_ value: UInt8) {
    byte(0xb0, value)
  }

  /// Loads the data and stack segments with a selector.
  mutating func setDataSegments(selector: UInt16) {
    move(.eax, UInt32(selector))
    byte(0x8e, 0xd8)  // mov ds, ax
    byte(0x8e, 0xc0)  // mov es, ax
    byte(0x8e, 0xd0)  // mov ss, ax
  }

  mutating func loadInterruptDescriptorTable(_ label: Label) {
    byte(0x0f, 0x01, 0x1d)
    address(of: label)
  }

  mutating func increment(at address: UInt32) {
    byte(0xff, 0x05)
    doubleWord(address)
  }

  /// `inc dword [register]`; not for `esp` and `ebp`, which are encoded differently.
  mutating func increment(atAddressIn register: Register) {
    byte(0xff, register.rawValue)
  }

  mutating func decrement(_ register: Register) {
    byte(0x48 + register.rawValue)
  }

  mutating func add(_ register: Register, _ value: UInt32) {
    byte(0x81, 0xc0 | register.rawValue)
    doubleWord(value)
  }

  mutating func not(_ register: Register) {
    byte(0xf7, 0xd0 | register.rawValue)
  }

  mutating func rotateLeft(_ register: Register, by bits: UInt8) {
    byte(0xc1, 0xc0 | register.rawValue, bits)
  }

  mutating func shiftRight(_ register: Register, by bits: UInt8) {
    byte(0xc1, 0xe8 | register.rawValue, bits)
  }

  mutating func addToAL(_ value: UInt8) {
    byte(0x04, value)
  }

  mutating func andAL(_ value: UInt8) {
    byte(0x24, value)
  }

  mutating func orAL(_ value: UInt8) {
    byte(0x0c, value)
  }

  /// Divides `edx:eax` by a register: the quotient goes to `eax`, the remainder to `edx`.
  mutating func divide(by register: Register) {
    byte(0xf7, 0xf0 | register.rawValue)
  }

  mutating func compare(_ register: Register, _ value: UInt32) {
    byte(0x81, 0xf8 | register.rawValue)
    doubleWord(value)
  }

  /// Compares a register with memory.
  mutating func compare(_ register: Register, withValueAt address: UInt32) {
    byte(0x3b, 0x05 | register.rawValue << 3)
    doubleWord(address)
  }

  /// Compares memory with a constant.
  mutating func compare(valueAt address: UInt32, _ value: UInt32) {
    byte(0x81, 0x3d)
    doubleWord(address)
    doubleWord(value)
  }

  mutating func compareAL(_ value: UInt8) {
    byte(0x3c, value)
  }

  mutating func testAL(_ mask: UInt8) {
    byte(0xa8, mask)
  }

  /// `stosd`: stores `eax` at `edi` and moves `edi` on.
  mutating func storeString() {
    byte(0xab)
  }

  /// `cld`: string instructions go upwards.
  mutating func clearDirection() {
    byte(0xfc)
  }
}

// MARK: - Control flow, stack, interrupts, ports

extension Assembler {
  mutating func jump(_ label: Label) {
    byte(0xe9)
    relative(to: label)
  }

  mutating func jump(if condition: Condition, _ label: Label) {
    byte(0x0f, 0x80 | condition.rawValue)
    relative(to: label)
  }

  mutating func call(_ label: Label) {
    byte(0xe8)
    relative(to: label)
  }

  /// `call register`
  mutating func call(addressIn register: Register) {
    byte(0xff, 0xd0 | register.rawValue)
  }

  mutating func `return`() {
    byte(Self.returnInstruction)
  }

  static let returnInstruction: UInt8 = 0xc3

  mutating func push(_ register: Register) {
    byte(0x50 + register.rawValue)
  }

  mutating func pop(_ register: Register) {
    byte(0x58 + register.rawValue)
  }

  mutating func pushAll() {
    byte(0x60)
  }

  mutating func popAll() {
    byte(0x61)
  }

  mutating func returnFromInterrupt() {
    byte(0xcf)
  }

  mutating func disableInterrupts() {
    byte(0xfa)
  }

  mutating func enableInterrupts() {
    byte(0xfb)
  }

  mutating func halt() {
    byte(0xf4)
  }

  /// Reads a byte from a port into `al`; `edx` is left holding the port.
  mutating func input(port: UInt16) {
    move(.edx, UInt32(port))
    byte(0xec)
  }

  /// Writes `al` to a port; `edx` is left holding the port.
  mutating func output(port: UInt16) {
    move(.edx, UInt32(port))
    byte(0xee)
  }

  /// Writes a constant to a port; changes `eax` and `edx`.
  mutating func output(_ value: UInt8, port: UInt16) {
    moveToAL(value)
    output(port: port)
  }

  /// Writes a constant word to a port; changes `eax` and `edx`.
  mutating func outputWord(_ value: UInt16, port: UInt16) {
    move(.edx, UInt32(port))
    move(.eax, UInt32(value))
    byte(0x66, 0xef)
  }

  /// Writes a constant double word to a port; changes `eax` and `edx`.
  mutating func outputDoubleWord(_ value: UInt32, port: UInt16) {
    move(.edx, UInt32(port))
    move(.eax, value)
    byte(0xef)
  }

  /// `rep outsw`: writes `ecx` words from `esi` to a port.
  mutating func outputWords(port: UInt16) {
    move(.edx, UInt32(port))
    byte(0x66, 0xf3, 0x6f)
  }
}
