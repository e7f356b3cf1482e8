// Small parts that several pages use.
import type { ComponentChildren } from 'preact';
import { useEffect, useId, useRef, useState } from 'preact/hooks';
import { encode } from 'uqr';
import { follow } from '../lib/router';
import { theme } from '../lib/storage';
import { hue, initials } from '../lib/words';
import { Icon, Logo, type Sign } from './icons';

export function Brand() {
  return (
    <a class="brand" href="/" onClick={follow} aria-label="Visavis, start page">
      <Logo />
      <span>Visavis</span>
    </a>
  );
}

export function ThemeButton() {
  const next = { system: 'dark', dark: 'light', light: 'system' } as const;
  const name = { system: 'as the system', dark: 'dark', light: 'light' }[theme.value];
  const sign = ({ system: 'system', dark: 'moon', light: 'sun' } as const)[theme.value];
  return (
    <button class="quiet round" title={`Colours: ${name}`} aria-label={`Colours: ${name}. Change`} onClick={() => (theme.value = next[theme.value])}>
      <Icon sign={sign} size={18} />
    </button>
  );
}

export function Avatar({ name, size }: { name: string; size?: number }) {
  const style: Record<string, string> = { '--hue': String(hue(name)) };
  if (size) style.width = style.height = `${size}px`;
  if (size) style.fontSize = `${size * 0.38}px`;
  return <span class="avatar" style={style} aria-hidden="true">{initials(name)}</span>;
}

interface DialogProps {
  title: string;
  onClose: () => void;
  children: ComponentChildren;
  wide?: boolean;
}

/** A modal dialog: the browser keeps the focus inside and closes it by Escape. */
export function Dialog({ title, onClose, children, wide }: DialogProps) {
  const element = useRef<HTMLDialogElement>(null);
  const heading = useId();
  useEffect(() => {
    const before = document.activeElement as HTMLElement | null;
    element.current?.showModal();
    return () => before?.focus?.();
  }, []);
  return (
    <dialog ref={element} class={wide ? 'dialog wide' : 'dialog'} aria-labelledby={heading} onClose={onClose}
      onClick={(event) => event.target === element.current && onClose()}>
      <div class="dialog-body">
        <header>
          <h2 id={heading}>{title}</h2>
          <button class="quiet round" aria-label="Close" onClick={onClose}><Icon sign="close" size={18} /></button>
        </header>
        {children}
      </div>
    </dialog>
  );
}

interface MenuProps {
  label: string;
  sign: Sign;
  class?: string;
  children: (close: () => void) => ComponentChildren;
  align?: 'start' | 'centre' | 'end';
  size?: number;
  keys?: string;
  /** Opened from elsewhere, by a key. */
  opened?: { value: boolean };
}

/** A button that opens a small menu above itself: arrows move, Escape and a click elsewhere close. */
export function Menu({ label, sign, class: name = '', children, align = 'centre', size = 20, keys, opened }: MenuProps) {
  const [own, setOwn] = useState(false);
  const open = opened ? opened.value : own;
  const setOpen = (value: boolean) => (opened ? (opened.value = value) : setOwn(value));
  const root = useRef<HTMLDivElement>(null);
  const button = useRef<HTMLButtonElement>(null);
  const close = () => {
    setOpen(false);
    button.current?.focus();
  };
  useEffect(() => {
    if (!open) return;
    const outside = (event: Event) => !root.current?.contains(event.target as Node) && setOpen(false);
    addEventListener('pointerdown', outside);
    root.current?.querySelector<HTMLElement>('.menu button, .menu input')?.focus({ preventScroll: true });
    return () => removeEventListener('pointerdown', outside);
  }, [open]);
  const move = (event: KeyboardEvent) => {
    if (!open) return;
    if (event.key === 'Escape') {
      event.stopPropagation();
      close();
    }
    // Leaves it as Tab leaves every menu: the focus goes on from its button.
    if (event.key === 'Tab') close();
    const step = { ArrowDown: 1, ArrowRight: 1, ArrowUp: -1, ArrowLeft: -1, Home: 0, End: 0 }[event.key];
    if (step === undefined) return;
    const items = [...(root.current?.querySelectorAll<HTMLElement>('.menu button:not(:disabled)') ?? [])];
    const at = items.indexOf(document.activeElement as HTMLElement);
    const next = event.key === 'Home' ? 0 : event.key === 'End' ? items.length - 1 : (at + step + items.length) % items.length;
    items[next]?.focus();
    event.preventDefault();
  };
  return (
    <div class="menu-root" ref={root} onKeyDown={move}>
      <button ref={button} class={name} aria-label={label} title={keys ? `${label} (${keys})` : label} aria-haspopup="menu" aria-expanded={open}
        onClick={() => setOpen(!open)}>
        <Icon sign={sign} size={size} />
      </button>
      {open && <div class={`menu ${align}`} role="menu" aria-label={label}>{children(close)}</div>}
    </div>
  );
}

interface MenuItemProps {
  onClick: () => void;
  sign?: Sign | undefined;
  checked?: boolean;
  hint?: string | undefined;
  children: ComponentChildren;
}

export function MenuItem({ onClick, sign, checked, hint, children }: MenuItemProps) {
  return (
    <button class="menu-item" role={checked === undefined ? 'menuitem' : 'menuitemradio'} aria-checked={checked} onClick={onClick}>
      {sign ? <Icon sign={sign} size={17} /> : <span class="menu-check">{checked && <Icon sign="check" size={15} />}</span>}
      <span class="menu-text">{children}</span>
      {hint && <kbd>{hint}</kbd>}
    </button>
  );
}

export function CopyButton({ text, label = 'Copy link', class: name = 'primary' }: { text: string; label?: string; class?: string }) {
  const [copied, setCopied] = useState(false);
  const copy = async () => {
    try {
      await navigator.clipboard.writeText(text);
    } catch {
      // Without the clipboard's permission: the old way.
      const area = document.createElement('textarea');
      area.value = text;
      document.body.append(area);
      area.select();
      document.execCommand('copy');
      area.remove();
    }
    setCopied(true);
    setTimeout(() => setCopied(false), 1800);
  };
  return (
    <button class={name} onClick={() => void copy()}>
      <Icon sign={copied ? 'check' : 'copy'} size={17} />
      <span aria-live="polite">{copied ? 'Copied' : label}</span>
    </button>
  );
}

export function Qr({ text }: { text: string }) {
  const { data, size } = encode(text, { ecc: 'M', border: 2 });
  let path = '';
  data.forEach((row, y) => row.forEach((dark, x) => (path += dark ? `M${x} ${y}h1v1h-1z` : '')));
  return (
    <svg class="qr" viewBox={`0 0 ${size} ${size}`} role="img" aria-label="QR code of the invite link" shape-rendering="crispEdges">
      <rect width={size} height={size} fill="#fff" />
      <path d={path} fill="#101114" />
    </svg>
  );
}

interface SwitchProps {
  checked: boolean;
  onChange: (checked: boolean) => void;
  label: string;
  description?: string;
  disabled?: boolean;
  sign?: Sign;
}

export function Switch({ checked, onChange, label, description, disabled = false, sign }: SwitchProps) {
  return (
    <label class="switch-row">
      {sign && <Icon sign={sign} size={18} />}
      <span class="switch-text">
        <span>{label}</span>
        {description && <small>{description}</small>}
      </span>
      <input type="checkbox" role="switch" checked={checked} disabled={disabled} onChange={(event) => onChange(event.currentTarget.checked)} />
    </label>
  );
}

interface SelectProps {
  label: string;
  sign: Sign;
  value: string;
  options: { id: string; label: string }[];
  onChange: (id: string) => void;
  none: string;
}

export function Select({ label, sign, value, options, onChange, none }: SelectProps) {
  return (
    <label class="select">
      <span class="visually-hidden">{label}</span>
      <Icon sign={sign} size={17} />
      <select value={options.some((option) => option.id === value) ? value : (options[0]?.id ?? '')} disabled={options.length === 0}
        onChange={(event) => onChange(event.currentTarget.value)}>
        {options.length === 0 && <option value="">{none}</option>}
        {options.map((option) => <option key={option.id} value={option.id}>{option.label}</option>)}
      </select>
      <Icon sign="down" size={15} />
    </label>
  );
}

export function Foot() {
  return (
    <footer class="foot">
      <a href="/doctor" onClick={follow}>Test your connection</a>
      <a href="/inspect" onClick={follow}>Operator</a>
      <a href="/licences.md" target="_blank">Licences</a>
    </footer>
  );
}

export function Progress({ share, label }: { share: number; label: string }) {
  return (
    <span class="progress" role="progressbar" aria-label={label} aria-valuemin={0} aria-valuemax={100} aria-valuenow={Math.round(share * 100)}>
      <span style={{ width: `${share * 100}%` }} />
    </span>
  );
}

/** A small curve; the last point is on the right. */
export function Curve({ values, ceiling, label }: { values: readonly number[]; ceiling?: number; label: string }) {
  const [width, height] = [120, 28];
  const most = Math.max(ceiling ?? 0, ...values, 1e-9);
  const step = width / Math.max(1, values.length - 1);
  const points = values.map((value, index) => `${(index * step).toFixed(1)},${(height - 2 - (value / most) * (height - 4)).toFixed(1)}`);
  return (
    <svg class="curve" viewBox={`0 0 ${width} ${height}`} preserveAspectRatio="none" role="img" aria-label={label}>
      {points.length > 1 && <polygon points={`0,${height} ${points.join(' ')} ${width},${height}`} />}
      {points.length > 1 && <polyline points={points.join(' ')} />}
    </svg>
  );
}
